"""Run a command's async part: Ctrl-C is 130, one error is one error."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

import trio

T = TypeVar("T")


def run(main: Callable[[], Awaitable[T]]) -> T:
    """``trio.run``, without the groups that Trio's nurseries put around what is raised.

    Raises:
        SystemExit: 130 after Ctrl-C, as shells expect.
        BaseException: what ``main`` raised; a group only where it is really several.
    """
    try:
        return trio.run(main)
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    except BaseExceptionGroup as group:
        if group.subgroup(KeyboardInterrupt) is not None:
            raise SystemExit(130) from None
        error: BaseException = group
        while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
            error = error.exceptions[0]
        raise error from None
