"""Stream names and the patterns that select them.

A stream name is 1–200 bytes of ``A–Z a–z 0–9 . _ - /`` with no empty, ``.`` or ``..`` part, e.g.
``greenhouse/bme280``. Names that begin with ``$`` are the agent's own; senders cannot write them.

A pattern is a name in which ``*`` stands for one part and ``**`` for any number of parts, none
included. Wildcards never match a ``$`` name: ``$`` must be written out (``$agents/**``), so that
an agent's own streams do not loop through rules and upstreams by accident.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from functools import lru_cache

from edge_agent.errors import ProtocolError

STREAM_BYTES_MAX = 200
SOURCE_BYTES_MAX = 200

_NAME = re.compile(r"\$?[A-Za-z0-9._-]+(?:/[A-Za-z0-9._-]+)*")
_PATTERN = re.compile(r"\$?[A-Za-z0-9._*-]+(?:/[A-Za-z0-9._*-]+)*")


@lru_cache(maxsize=4096)
def stream_problem(name: str) -> str | None:
    """Why a sender may not use ``name`` as a stream, as a sentence; None where it may."""
    if not name or len(name) > STREAM_BYTES_MAX:
        return f"a stream name has 1 to {STREAM_BYTES_MAX} bytes, this has {len(name)}"
    if name.startswith("$"):
        return f"{name!r}: names that begin with '$' are the agent's own"
    if not _NAME.fullmatch(name):
        return f"{name!r}: a stream name has parts of A-Z a-z 0-9 . _ - joined by single '/'"
    if any(part in (".", "..") for part in name.split("/")):
        return f"{name!r}: a part of a stream name cannot be '.' or '..'"
    return None


def source_problem(name: str) -> str | None:
    """Why ``name`` cannot be the name of a source; same alphabet and length as a stream."""
    problem = stream_problem(name)
    return None if problem is None else problem.replace("stream", "source")


def pattern_problem(pattern: str) -> str | None:
    """Why ``pattern`` is none, as a sentence; None where it is one."""
    try:
        compile_pattern(pattern)
    except ProtocolError as error:
        return error.message
    return None


def compile_pattern(pattern: str) -> Callable[[str], bool]:
    """A function that says whether a stream name matches ``pattern``.

    Raises:
        ProtocolError: ``bad_pattern``, with a sentence; callers that read a configuration
            turn it into a ConfigError.
    """
    if not pattern or len(pattern) > STREAM_BYTES_MAX or not _PATTERN.fullmatch(pattern):
        raise ProtocolError(
            "bad_pattern",
            f"{pattern!r}: a pattern is a stream name in which '*' stands for one part "
            "and '**' for any number of parts",
        )
    parts = pattern.split("/")
    for part in parts:
        if "*" in part and part not in ("*", "**"):
            raise ProtocolError(
                "bad_pattern", f"{pattern!r}: '*' and '**' stand for whole parts, not {part!r}"
            )
    expression = _expression(parts)
    # With a slash behind the name every part looks alike, the last one too.
    return lambda name: expression.fullmatch(name + "/") is not None


def compile_patterns(patterns: Iterable[str]) -> Callable[[str], bool]:
    """Like `compile_pattern`, for "any of these". No pattern at all matches nothing."""
    matchers = [compile_pattern(pattern) for pattern in patterns]
    if len(matchers) == 1:
        return matchers[0]
    return lambda name: any(matches(name) for matches in matchers)


def _expression(parts: list[str]) -> re.Pattern[str]:
    # Patterns come from peers, so that no pattern may take long. What stands between two "**"
    # has a fixed number of parts; the first place where it fits is as good as any later one, and
    # the atomic groups (?>...) say that none of them is tried again: n x m steps at most.
    one = r"[^/$][^/]*/"
    chunks = [""]
    for part in parts:
        if part == "**":
            chunks.append("")
        else:
            chunks[-1] += one if part == "*" else re.escape(part) + "/"
    if len(chunks) == 1:
        return re.compile(chunks[0])
    middle = "".join(f"(?>(?:{one})*?{chunk})" for chunk in chunks[1:-1])
    return re.compile(f"{chunks[0]}{middle}(?:{one})*{chunks[-1]}")
