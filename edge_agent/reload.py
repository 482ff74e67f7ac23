"""The configuration at SIGHUP: read once more, and handed to each part that takes up changes.

A file that cannot be used is told once and leaves everything as it was: no part sees it.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable

from edge_agent.audit import SIGNAL, audited
from edge_agent.commit import RunBlocking
from edge_agent.config import Config
from edge_agent.errors import ConfigError

logger = logging.getLogger(__name__)

TakeUp = Callable[[Config], Awaitable[str]]
"""Takes up what one part can of a configuration; why something of it stays as it was, or ""."""


class ConfigReload:
    """Reads the configuration again, for all parts together.

    Args:
        reread: the configuration as it is now; None where it cannot be read again.
        run_blocking: for reading files.
        parts: are handed it, one after the other.
    """

    def __init__(
        self, reread: Callable[[], Config] | None, run_blocking: RunBlocking, *parts: TakeUp
    ) -> None:
        self._reread, self._run_blocking, self._parts = reread, run_blocking, parts

    async def again(self) -> None:
        """Read it and hand it on; the audit has what stays. Never raises for what a file says."""
        with audited("reload", "the configuration and the files it names", SIGNAL) as outcome:
            if stays := await self._read():
                outcome.told = f"in part: {'; '.join(stays)}"

    async def _read(self) -> list[str]:
        if self._reread is None:
            return []
        try:
            config = await self._run_blocking(self._reread)
        except ConfigError as error:
            logger.warning("the configuration stays as it was: %s", error)
            return [str(error)]
        return [stays for take_up in self._parts if (stays := await take_up(config))]
