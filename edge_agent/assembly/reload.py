"""The configuration at SIGHUP: read once more, and taken up by all parts or by none.

Each part first prepares what it needs of it, and may refuse, as long as nothing has changed: where
a hook cannot be imported, the upstreams of the same file stay as they were, too. What waits for a
start refuses nothing; it is told.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable

from edge_agent.commit import RunBlocking
from edge_agent.config import Config
from edge_agent.errors import ConfigError
from edge_agent.security.audit import SIGNAL, audited

logger = logging.getLogger(__name__)

TakeUp = Callable[[], Awaitable[str]]
"""Puts in force what was prepared, which nothing can refuse any more; what of it waits for a start,
or "".
"""
Prepare = Callable[[Config], Awaitable[TakeUp]]
"""Makes what one part needs of a configuration, and changes nothing; raises ConfigError where there
is a part of it that cannot be used.
"""


class ConfigReload:
    """Reads the configuration again, for all parts together.

    Args:
        reread: the configuration as it is now; None where it cannot be read again.
        run_blocking: for reading files.
        parts: prepare and take it up, one after the other.
    """

    def __init__(
        self, reread: Callable[[], Config] | None, run_blocking: RunBlocking, *parts: Prepare
    ) -> None:
        self._reread, self._run_blocking, self._parts = reread, run_blocking, parts

    async def again(self) -> None:
        """Read it and take it up; the audit has what stays. Never raises for what a file says."""
        with audited("reload", "the configuration and the files it names", SIGNAL) as outcome:
            if self._reread is None:
                return
            try:
                config = await self._run_blocking(self._reread)
                ready = [await prepare(config) for prepare in self._parts]
            except ConfigError as error:
                logger.warning("the configuration stays as it was, all of it: %s", error)
                outcome.told = f"the configuration stays as it was: {error}"
                return
            if stays := [told for take_up in ready if (told := await take_up())]:
                outcome.told = f"in part: {'; '.join(stays)}"
