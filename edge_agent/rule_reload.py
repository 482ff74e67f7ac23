"""Rules that are changed while the agent runs: SIGHUP takes them up.

Of a new configuration's rules only those that act before storing, and those about times, take
effect; all others need a restart. What cannot be used, such as a hook that cannot be imported,
leaves the old rules in force, all of them, and the journal says why.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import partial
from typing import Protocol

from edge_agent.commit import RunBlocking
from edge_agent.config import Config, Limits, Rule, with_sending
from edge_agent.errors import ConfigError
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

    async def take_up(self, config: Config) -> str:
        """Put ``config``'s rules in force; what stays as it was and why, "" where nothing does.
        Never raises for what a file says.
        """
        # With those behind upstreams, as the agent was started with.
        given = with_sending(config).rule
        if not (given or self._known):
            return ""
        try:
            compiled = await self._run_blocking(partial(self._compile, given, limits=self._limits))
        except ConfigError as error:
            logger.warning("the rules stay as they were: %s", error)
            return str(error)
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
