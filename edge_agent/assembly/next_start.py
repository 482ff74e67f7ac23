"""Changed keys of the configuration that take effect only at the next start: told by name.

SIGHUP takes up rules and upstreams (`edge_agent.assembly.rule_reload`, `edge_agent.forward`), the
ports' certificate (`edge_agent.security.renewal`), a few keys of ``[listen]``
(`edge_agent.server`), and tokens, whose file is followed anyway. Everything else was read once. A
person who changes ``listen.address`` and reloads is told so in the journal, and not left to find
out.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping
from functools import partial

import msgspec
import trio

from edge_agent.config import Config, Listen

logger = logging.getLogger(__name__)

#: Tables that SIGHUP takes up; what of them it cannot, whoever takes them up says.
TAKEN_UP = frozenset({"rule", "upstream"})


class NextStart:
    """Compares the configuration with what the agent was started with.

    Args:
        config: what the agent was started with.
        take_up_listen: takes up what it can of ``[listen]``; answers with what is in force then.
    """

    def __init__(self, config: Config, take_up_listen: Callable[[Listen], Listen]) -> None:
        self._in_force, self._told = config, list[str]()
        self._take_up_listen = take_up_listen

    async def prepare(self, config: Config) -> Callable[[], Awaitable[str]]:
        """Nothing here refuses; what is given back takes up what it can, and tells what waits for a
        start, each set of keys once: that in words, "" where nothing does.
        """
        await trio.lowlevel.checkpoint()
        return partial(self._take_up, config)

    async def _take_up(self, config: Config) -> str:
        listen = self._take_up_listen(config.listen)
        in_force = msgspec.structs.replace(self._in_force, listen=listen)
        if taken := changed_keys(self._in_force, in_force):
            logger.info("taken up: %s", ", ".join(taken))
        self._in_force = in_force
        waiting = changed_keys(in_force, config)
        if waiting and waiting != self._told:
            logger.warning(
                "changed, and taken up at the next start alone (systemctl restart edge-agent): %s",
                ", ".join(waiting),
            )
        self._told = waiting
        return f"at the next start alone: {', '.join(waiting)}" if waiting else ""


def changed_keys(old: Config, new: Config) -> list[str]:
    """Keys in which they differ, such as ``listen.address``, without what SIGHUP takes up; of a
    log that is new or gone its name alone, ``log.alarms``. Pure.
    """
    before, after = _flat(old), _flat(new)
    changed = {key for key in before | after if before.get(key) != after.get(key)}
    for log in old.log.keys() ^ new.log.keys():
        changed = {key for key in changed if not key.startswith(f"log.{log}.")} | {f"log.{log}"}
    return sorted(changed)


def _flat(config: Config) -> dict[str, object]:
    found: dict[str, object] = {}

    def walk(value: object, key: str) -> None:
        if isinstance(value, msgspec.Struct):
            value = msgspec.structs.asdict(value)
        if isinstance(value, Mapping) and value:
            for name, inner in value.items():
                walk(inner, f"{key}.{name}" if key else name)
        else:
            found[key] = value

    tables = msgspec.structs.asdict(config)
    walk({name: table for name, table in tables.items() if name not in TAKEN_UP}, "")
    return found
