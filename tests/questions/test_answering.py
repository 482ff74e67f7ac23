"""The process that answers, its input and output in hand."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import msgspec
import pytest

from edge_agent.history import FOLDER, LENGTH_BYTES, Ask, parse_question
from edge_agent.questions import answering
from edge_agent.questions.answering import serve
from tests.history.answers.made import NOW_NS, START_NS, Plain, made


def answers(folder: Path, *asks: Ask) -> list[tuple[int, str, Any]]:
    sent = io.BytesIO()
    for ask in asks:
        frame = msgspec.msgpack.encode(ask)
        sent.write(len(frame).to_bytes(LENGTH_BYTES, "big") + frame)
    sent.seek(0)
    told = io.BytesIO()
    serve(folder, sent, told)
    return frames_in(told)


def frames_in(told: io.BytesIO) -> list[tuple[int, str, Any]]:
    told.seek(0)
    found = []
    while head := told.read(LENGTH_BYTES):
        found.append(tuple(msgspec.msgpack.decode(told.read(int.from_bytes(head, "big")))))
    return found


def ask(number: int, *, flushes: int = 1, seconds: float = 60.0, lag: int = 0, **given: str) -> Ask:
    parameters = {"from": "2026-03-02", "to": "2026-03-03", **given}
    question = parse_question(parameters, NOW_NS, 1000)
    return Ask(number, question, "json", [("a", 1)], {}, flushes, seconds, lag)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    with made(tmp_path) as history:
        history.put(Plain("a", START_NS + n, {"t": n}) for n in range(10))
        history.flush()
    return tmp_path / FOLDER


def test_one_question_after_the_other(folder: Path) -> None:
    found = answers(folder, ask(1, step="all", lag=7), ask(2, limit="2"))
    assert [number for number, kind, _ in found if kind == "end"] == [1, 2]
    assert b'"lag":7' in b"".join(value for number, kind, value in found if kind == "piece")
    (last,) = [value for number, kind, value in found if (number, kind) == (2, "end")]
    rows, seconds, rest = last
    assert rows == 2 and seconds >= 0 and rest["truncated"] is True


def test_a_file_that_was_written_since_is_asked_for_again(folder: Path) -> None:
    assert answers(folder, ask(1, flushes=0)) == [(1, "again", None)]


def test_a_question_that_takes_too_long_is_told_and_the_next_is_answered(folder: Path) -> None:
    first, *rest = answers(folder, ask(1, seconds=0.0), ask(2))
    assert first[:2] == (1, "error")
    assert first[2][0] == "too_long" and "limits.query_seconds" in first[2][1]
    assert rest[-1][:2] == (2, "end")


def test_a_question_that_needs_too_much_memory_is_told(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Greedy:
        def __init__(self, *given: object) -> None:
            raise MemoryError

    monkeypatch.setattr(answering, "Answer", Greedy)
    ((number, kind, (code, text)),) = answers(folder, ask(1))
    assert (number, kind, code) == (1, "error", "too_long") and "memory" in text


def test_a_file_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    ((number, kind, (code, text)),) = answers(tmp_path / "none", ask(5))
    assert (number, kind, code) == (5, "error", "store_failing")
    assert text.startswith("history: ")


class _Narrow(io.BytesIO):
    """Takes some bytes at a time, as a pipe may."""

    def write(self, data: Any) -> int:
        return super().write(data[:1000])


def test_what_a_pipe_takes_in_parts_arrives_whole(folder: Path) -> None:
    sent, told = io.BytesIO(), _Narrow()
    for number in (1, 2):
        frame = msgspec.msgpack.encode(ask(number))
        sent.write(len(frame).to_bytes(LENGTH_BYTES, "big") + frame)
    sent.seek(0)
    serve(folder, sent, told)
    assert len(told.getvalue()) > 2000
    found = frames_in(told)
    assert [(number, kind) for number, kind, _ in found] == [
        (1, "piece"), (1, "end"), (2, "piece"), (2, "end")
    ]  # fmt: skip
    assert found[0][2] == found[2][2]


def test_a_frame_that_cannot_be_made_leaves_those_before_it_whole() -> None:
    told = io.BytesIO()
    frames = answering._Frames(told)
    frames.tell_piece(1, [b"x", b"", b"z"])
    with pytest.raises(TypeError):
        frames.tell_piece(1, [b"y" * 100, object()])  # type: ignore[list-item] # what fails midway
    frames.tell(1, "error", ["too_long", "no memory"])
    frames.flush()
    assert frames_in(told) == [(1, "piece", b"xz"), (1, "error", ["too_long", "no memory"])]
