"""This module takes up what the configuration says of upstreams while they run: SIGHUP.

Of a new configuration only the upstreams take effect here. What cannot be used is refused before
anything has changed. Logs come with a start alone, so that an upstream cannot name a new one
before.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from functools import partial

import trio
from msgspec import structs

from edge_agent.config import Config, Rule, Upstream, with_sending
from edge_agent.errors import ConfigError
from edge_agent.forward.upstreams import Upstreams, removed

logger = logging.getLogger(__name__)


class UpstreamReload:
    """Keeps ``upstreams`` at what the configuration says.

    Args:
        config: what the agent was started with.
        upstreams: those that run.
    """

    def __init__(self, config: Config, upstreams: Upstreams) -> None:
        self._logs, self._upstreams = config.log.keys(), upstreams
        self._rules = {rule.name: rule for rule in config.rule}

    async def prepare(self, read: Config) -> Callable[[], Awaitable[str]]:
        """Make what ``read`` says of upstreams; what is given back lets it run.

        Raises:
            ConfigError: there cannot be one of them, or not before the next start.
        """
        await trio.lowlevel.checkpoint()
        config = with_sending(read)
        self._check_logs(config.upstream)
        self._check_sending(config.rule[len(read.rule) :])
        return partial(self._take_up, self._upstreams.prepare(config.upstream))

    async def _take_up(self, change: Callable[[], Awaitable[None]]) -> str:
        before = {one.name: one for one in self._upstreams.configured}
        await change()
        after = {one.name: one for one in self._upstreams.configured}
        for name in before.keys() - after.keys():
            logger.warning("%s", removed(name))
        for name, one in after.items():
            if name not in before:
                logger.info("upstream %s is new", name)
            elif one != before[name]:
                changed = ", ".join(changes(before[name], one))
                logger.info("upstream %s goes on from where it was, with another %s", name, changed)
        return ""

    def _check_logs(self, given: tuple[Upstream, ...]) -> None:
        for one in given:
            for name in one.logs:
                if name not in self._logs:
                    at, expected = f"upstream.{one.name}.logs", "a log that the agent started with"
                    raise ConfigError(at, expected, f'"{name}"')

    def _check_sending(self, rules: Sequence[Rule]) -> None:
        """Windows begin with a start: an upstream for which one would be new would get nothing."""
        for rule in rules:
            if self._rules.get(rule.name) != rule:
                expected = "what the agent started with (systemctl restart edge-agent takes it up)"
                raise ConfigError("upstream send", expected, f"another rule {rule.name}")


def changes(old: Upstream, new: Upstream) -> list[str]:
    """The keys in which they differ."""
    return [key for key in structs.asdict(new) if getattr(old, key) != getattr(new, key)]
