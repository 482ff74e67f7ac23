"""Kinds of upstream that other packages bring, through entry points of the group `GROUP`.

An entry point's name is the scheme of its URLs, its value the function that makes a sink
(docs/own-sink.md). Here they are only found, nothing of theirs is imported: that happens when a
sink is made.
"""

from __future__ import annotations

import sys
from functools import lru_cache
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

GROUP: Final = "edge_agent.sinks"


def sink_package(scheme: str) -> EntryPoint | None:
    """The entry point for URLs of this scheme; None where no package that is installed has one.

    Where several have, the first by the name of its distribution.
    """
    return _found(scheme, tuple(sys.path)) if scheme else None


def distribution_of(entry: EntryPoint) -> str:
    """The name and version under which pip knows who brings it."""
    return "an unknown package" if entry.dist is None else f"{entry.dist.name} {entry.dist.version}"


@lru_cache(maxsize=64)
def _found(scheme: str, path: tuple[str, ...]) -> EntryPoint | None:
    # The search reads the metadata of every package, some 10 ms; the path is what it depends on.
    del path
    # Imported here: an agent without such a kind does not pay for it.
    from importlib.metadata import entry_points

    found = entry_points(group=GROUP, name=scheme)
    return min(found, key=distribution_of, default=None)
