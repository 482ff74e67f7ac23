"""Rules that are changed while the agent runs: SIGHUP takes them up.

Of a new configuration's rules only those that act before storing, and those about times, take
effect; all others need a restart. What cannot be used, such as a hook that cannot be imported,
leaves everything as it was (`edge_agent.assembly.reload`).
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Protocol

from edge_agent.commit import RunBlocking
from edge_agent.config import Config, Limits, Rule, with_sending
from edge_agent.rules import CompiledRules, RulesInForce

logger = logging.getLogger(__name__)


class Compile(Protocol):
    """`edge_agent.rules.compile_rules`, with what does not change."""

    def __call__(self, rules: Sequence[Rule], *, limits: Limits) -> CompiledRules:
        """The rules, compiled."""


class RuleReload:
    """Keeps ``rules`` at what the configuration says.

    Args:
        config: what the agent was started with.
        rules: those in force.
        compile_: makes new ones.
        run_blocking: for compiling, which imports hooks.
    """

    def __init__(
        self,
        config: Config,
        rules: RulesInForce,
        compile_: Compile,
        run_blocking: RunBlocking,
    ) -> None:
        self._limits, self._known = config.limits, config.rule
        self._rules, self._compile = rules, compile_
        self._run_blocking = run_blocking

    async def prepare(self, config: Config) -> Callable[[], Awaitable[str]]:
        """Compile ``config``'s rules; what is given back puts them in force.

        Raises:
            ConfigError: one of them cannot be used.
        """
        # With those behind upstreams, as the agent was started with.
        given = with_sending(config).rule
        compile_ = partial(self._compile, given, limits=self._limits)
        is_any = bool(given or self._known)
        return partial(self._take_up, given, await self._run_blocking(compile_) if is_any else None)

    async def _take_up(self, given: tuple[Rule, ...], compiled: CompiledRules | None) -> str:
        if compiled is None:
            return ""
        self._rules.replace(compiled)
        logger.info("the rules were read again: %d act before storing", len(compiled.steps))
        self._known = (*(rule for rule in given if not rule.acts_after), *_after(self._known))
        before, after = _after(self._known), _after(given)
        if before == after:
            return ""
        waiting = {one.name for one in before + after if (one in before) != (one in after)}
        told = f"rules that act after storing: {', '.join(sorted(waiting)) or 'their order'}"
        logger.warning("taken up at the next start alone (systemctl restart edge-agent): %s", told)
        return f"at the next start alone: {told}"


def _after(rules: Sequence[Rule]) -> tuple[Rule, ...]:
    """Those that act after storing."""
    return tuple(rule for rule in rules if rule.acts_after)
