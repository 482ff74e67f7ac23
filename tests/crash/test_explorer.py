"""The explorer itself, on a run of three writes: what it tries, what it notices, what it names."""

from __future__ import annotations

import logging
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.crash import explorer
from tests.crash.bench import make_bench
from tests.crash.choices import Plan, choices
from tests.crash.explorer import Shard, Tally, Try, _Worker, explore
from tests.crash.history import History, Moment
from tests.crash.images import Image
from tests.crash.inodes import UNIT
from tests.crash.recording import Op
from tests.crash.replay import attempt_at, describe, keep, main
from tests.crash.verdict import Verdict

PLAN = Plan(1, 1.0, 2.0)


def history_of(units: int = 4) -> History:
    """A file that is surely there, and one write to it, synced."""
    flags = "O_RDWR|O_CREAT"
    data = b"".join(bytes([65 + unit]) * UNIT for unit in range(units))
    ops = [
        Op(1, 1, "open", "f", fd=4, flags=flags),
        Op(2, 2, "resize", "f", fd=4, offset=units * UNIT, flags="extend"),
        Op(3, 3, "open", "", fd=5),
        Op(4, 4, "sync", "", fd=5),
        Op(5, 5, "sync", "f", fd=4),
        Op(6, 7, "write", "f", fd=4, offset=0, data=data),
        Op(8, 9, "sync", "f", fd=4),
    ]
    return History([ops], [])


def looked_at(judge: Callable[[bytes], list[str]]) -> Callable[[History, Path], Try]:
    """An attempt that is told what lies in the bench: the first byte of every unit."""

    def prepare(_: History, bench: Path) -> Try:
        def attempt(_: Moment, image: Image) -> Verdict:
            if not (bench / "f").exists():
                return Verdict()
            return Verdict(judge((bench / "f").read_bytes()[::UNIT]))

        return attempt

    return prepare


def explored(judge: Callable[[bytes], list[str]], **options: object) -> Tally:
    return explore(history_of(), PLAN, looked_at(judge), **options)  # type: ignore[arg-type]  # as named


def test_a_descriptor_that_is_opened_anew_before_its_close_has_ended_is_the_new_one() -> None:
    flags = "O_RDWR|O_CREAT"
    ops = [
        Op(1, 1, "open", "f", fd=4, flags=flags),
        # One thread closes it; another is given its number before the first is told.
        Op(2, 4, "close", "f", fd=4),
        Op(3, 3, "open", "g", fd=4, flags=flags),
        Op(5, 6, "write", "g", fd=4, offset=0, data=b"x" * UNIT),
    ]
    *_, last = History([ops], []).moments()
    assert last.disk.root.live.keys() == {"f", "g"}


def test_what_is_tried_lies_in_the_bench() -> None:
    tally = explored(lambda text: ["all"] if text == b"ABCD" else [])

    assert tally.states > 10
    assert tally.failures[0].problems == ("all",)
    assert len(tally.failures[0].chosen) == 4


def test_parts_with_a_pattern_are_all_tried() -> None:
    drawn = {
        tuple(item.index for item in chosen)
        for moment in history_of().moments()
        for chosen in choices(moment, PLAN)
        if moment.shrinks and len(moment.disk.pending) == 4
    }

    assert {(), (0, 1, 2, 3), (1, 2, 3), (2, 3), (3,)} <= drawn


def test_the_same_seed_draws_the_same() -> None:
    def drawn(seed: int) -> list[list[int]]:
        plan = Plan(seed, 0.5, 3.0)
        return [
            [item.number for item in chosen]
            for moment in history_of(20).moments()
            for chosen in choices(moment, plan)
        ]

    assert drawn(1) == drawn(1)
    assert drawn(1) != drawn(2)


def test_shards_together_try_what_one_does() -> None:
    whole = explored(lambda _: [])
    parts = [explored(lambda _: [], shard=Shard(number, 3)) for number in range(3)]

    together = {image for part in parts for found in part.images.values() for image in found}
    assert together == whole.images["first start"]


def test_an_answer_that_is_read_late_is_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """More than a pipe holds, from a shard that is done long before the one that is read first."""
    monkeypatch.setattr(explorer, "HANGS_S", 1)
    text = "x" * 300_000
    benches = make_bench()
    try:
        worker = _Worker(
            history_of(), PLAN, looked_at(lambda _: [text]), Shard(), until_failure=True,
            benches=benches,
        )  # fmt: skip
        worker._process.join(3)
        assert worker.result().failures[0].problems == (text,)
    finally:
        shutil.rmtree(benches)


def test_a_failure_is_described_by_what_has_to_be_missing() -> None:
    tally = explored(lambda text: ["no B"] if text[1:2] == b"\0" and b"C" in text else [])
    failure = tally.failures[0]
    path = keep(history_of(), "stores", failure)
    text = describe(history_of(), failure, path)

    assert "of 4 pending 1 missing (unit 1 of file" in text
    assert "no B" in text
    assert f"python -m tests.crash.replay {path}" in text


def test_what_replays_a_failure_makes_the_same_image() -> None:
    prepare = looked_at(lambda text: [text.decode()] if text == b"A\0CD" else [])
    tally = explore(history_of(), PLAN, prepare)
    failure = tally.failures[0]

    assert attempt_at(history_of(), prepare, failure).problems == ["A\0CD"]


@pytest.fixture
def journal_as_before() -> Iterator[None]:
    """A replay silences the journal of its process, which is this one."""
    yield
    logging.disable(logging.NOTSET)


@pytest.mark.usefixtures("journal_as_before")
def test_a_replay_tells_whether_it_still_fails() -> None:
    tally = explored(lambda text: ["wrong"] if b"C" in text else [])
    # As a store it is none, so that its opening makes one; that is no failure.
    path = keep(history_of(), "stores", tally.failures[0])

    assert main(str(path)) == 0


def test_a_start_that_brings_its_process_down_is_named_and_the_others_are_tried() -> None:
    def judge(text: bytes) -> list[str]:
        if text == b"\0B\0\0":
            os.kill(os.getpid(), signal.SIGKILL)
        return []

    tally = explored(judge)

    assert {failure.problems for failure in tally.failures} == {
        (f"the process ended with {-signal.SIGKILL}",)
    }
    assert tally.tried > 0
