"""Boards that are reset, and count from the same value again."""

from __future__ import annotations

from pathlib import Path

from tests.docs.sensors.sensors import said, values
from tests.end_to_end.support import AgentProcess, eventually


async def two_lives(agent: AgentProcess, begin: float, folder: Path) -> list[list[float]]:
    """The values of a board before its reset, and after it, once there are some of these.

    What a board had sent when it was reset may arrive after it runs again.
    """

    async def lived_on() -> list[list[float]] | None:
        found = await values(agent)
        if found.count(begin) < 2 or found[-1] == begin:
            return None
        again = found.index(begin, 1)
        return [found[:again], found[again:]]

    try:
        lives: list[list[float]] = await eventually(lived_on, describe="a second life")
    except AssertionError as error:
        raise AssertionError(f"{error}; the board said: {said(folder)[-2000:]}") from error
    return lives
