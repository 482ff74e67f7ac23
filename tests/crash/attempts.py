"""The ways in which an image is tried: what a child does with each one, and what can go wrong.

``stores`` opens the store alone, with the product's own opening, as `verdict` says; ``starts`` runs
the whole agent, as `survivor` says; ``torn`` damages the image first, as no power cut may, and
asks only that nothing wrong is delivered.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Final

from edge_agent.store import Engine
from tests.crash.controls import CONTROLS
from tests.crash.explorer import Prepare, Try
from tests.crash.history import AGENT, History, Moment
from tests.crash.images import Image
from tests.crash.inodes import UNIT
from tests.crash.survivor import Survivor
from tests.crash.verdict import CLOCK, Judge, Verdict

DATA: Final = f"{AGENT}/store/data.mdb"


def stores(broken: str = "none") -> Prepare:
    """The store's real opening on every image."""
    return partial(_prepare, broken, _stores)


def starts(broken: str = "none") -> Prepare:
    """The whole agent on every image."""
    return partial(_prepare, broken, _starts)


def torn(broken: str = "none") -> Prepare:
    """The store's real opening on every image that holds a block, with a part of it damaged."""
    return partial(_prepare, broken, _torn)


def _prepare(
    broken: str, make: Callable[[History, Path], Try], history: History, bench: Path
) -> Try:
    # What a recovery says of itself is for people who wait for it, not for a thousand of them.
    logging.disable(logging.CRITICAL)
    CONTROLS[broken]()
    return partial(_guarded, make(history, bench))


def _guarded(attempt: Try, moment: Moment, image: Image) -> Verdict:
    """Whatever comes out of a start is a start that failed."""
    try:
        return attempt(moment, image)
    except Exception as error:  # noqa: BLE001  # the reason stands above
        return Verdict([f"it does not start: {_innermost(error)!r}"])


def _innermost(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def _stores(history: History, bench: Path) -> Try:
    judge = Judge(history, bench / AGENT)
    return lambda moment, _: judge.judge(moment.known)


def _starts(history: History, bench: Path) -> Try:
    return Survivor(history, bench).judge


def _torn(history: History, bench: Path) -> Try:
    judge = Judge(history, bench / AGENT)

    def attempt(_: Moment, image: Image) -> Verdict:
        verdict = Verdict()
        if _tear(bench / DATA, image):
            verdict.checked = 1
            engine = Engine.open(bench / AGENT, judge.settings, clock=CLOCK, entropy=bytes)
            try:
                verdict.problems += judge.wrong_records(engine)
            finally:
                engine.close()
        return verdict

    return attempt


def _tear(data: Path, image: Image) -> bool:
    """Write half of a sector that holds a record's text, and so break the assumption that sectors
    are written whole; False where there is no such sector.
    """
    content = image.files.get(DATA)
    if content is None:
        return False
    dice = random.Random(image.hash)
    units = [
        at
        for at in range(8192, len(content[0]), UNIT)
        # Deep in a long value, so that it is no page's head that breaks.
        if content[0].count(b"pack/2:", at, at + UNIT) > 8
    ]
    if not units:
        return False
    at = dice.choice(units)
    half = content[0][at : at + UNIT // 2].replace(b"pack/2", b"pick/7")
    with data.open("r+b") as file:
        file.seek(at)
        file.write(half)
    return True
