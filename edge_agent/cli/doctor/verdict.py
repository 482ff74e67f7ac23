"""One line of `doctor`: what was looked at, the verdict, what was found, what to do about it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Word = Literal["ok", "warn", "fail"]


@dataclass(frozen=True, slots=True)
class Finding:
    """``fix`` is one sentence, "" where there is nothing to do."""

    name: str
    verdict: Word
    found: str
    fix: str = ""


def ok(name: str, found: str) -> Finding:
    """All is well, or nothing can be said against it."""
    return Finding(name, "ok", found)


def warn(name: str, found: str, fix: str) -> Finding:
    """It works, and a person should know."""
    return Finding(name, "warn", found, fix)


def fail(name: str, found: str, fix: str) -> Finding:
    """It does not work, or what is acked may be lost."""
    return Finding(name, "fail", found, fix)
