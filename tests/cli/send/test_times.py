"""What the order of a file decides: which of two hours a local time belongs to."""

from __future__ import annotations

import io

import pytest

from edge_agent.cli.send import times
from edge_agent.cli.send.rows import BoundedLines, read_rows
from edge_agent.cli.send.times import BadRow, TimeReader

BERLIN = "Europe/Berlin"


def read(local: str, zone: str = BERLIN) -> list[str]:
    """Of each row ``HH:MM`` of that night its time in UTC, or "bad"."""
    lines = "".join(f"2026-10-25 {each},1\n" for each in local.split())
    data = io.BytesIO(f"time,v\n{lines}".encode())
    rows = list(read_rows(BoundedLines(data), "csv", TimeReader.parse(None, None, zone)))
    assert [row.line for row in rows] == list(range(2, len(rows) + 2))
    return [
        "bad" if isinstance(row, BadRow) else row.fields["time"].strftime("%H:%M") for row in rows
    ]


@pytest.mark.parametrize(
    "local, utc",
    [
        # Oldest first: the step back is where clocks were put back.
        ("01:30 02:00 02:30 02:00 02:30 03:00", "23:30 00:00 00:30 01:00 01:30 02:00"),
        ("02:10 02:50 02:10 02:50", "00:10 00:50 01:10 01:50"),
        ("01:59 02:59 02:00 03:00", "23:59 00:59 01:00 02:00"),
        # Two sensors in one file.
        ("01:30 01:30 02:00 02:00 02:30 02:30 02:00 02:00 03:00 03:00",
         "23:30 23:30 00:00 00:00 00:30 00:30 01:00 01:00 02:00 02:00"),
        # Newest first: the step forward.
        ("03:00 02:30 02:00 02:30 02:00 01:30", "02:00 01:30 01:00 00:30 00:00 23:30"),
        # Every hour once, this one twice.
        ("01:00 02:00 02:00 03:00", "23:00 00:00 01:00 02:00"),
        # Nothing decides.
        ("01:30 02:30 03:30", "23:30 bad 02:30"),
        ("02:30", "bad"),
        ("02:30 02:10", "bad bad"),
        ("01:30 02:00 02:30 03:00", "23:30 bad bad 02:00"),
        ("01:00 01:00 02:00 02:00 03:00 03:00", "23:00 23:00 bad bad 02:00 02:00"),
        ("01:30 02:40 02:10 02:40 02:10 03:00", "23:30 bad bad bad bad 02:00"),
        # At the end of a file that will grow.
        ("01:30 02:00", "23:30 bad"),
        ("01:30 02:00 02:30 02:00", "23:30 00:00 00:30 01:00"),
    ],
)  # fmt: skip
def test_the_order_of_a_file_says_which_of_two_hours_is_meant(local: str, utc: str) -> None:
    assert read(local) == utc.split()


def test_a_time_that_does_not_occur_is_a_bad_row() -> None:
    data = io.BytesIO(b'{"time": "2026-03-29 01:30"}\n{"time": "2026-03-29 02:30"}\n')
    first, second = read_rows(BoundedLines(data), "jsonl", TimeReader.parse(None, None, BERLIN))
    assert not isinstance(first, BadRow)
    assert isinstance(second, BadRow)
    assert "does not occur" in second.reason


def test_an_offset_leaves_nothing_to_decide() -> None:
    assert read("01:30 02:30 03:30", "+01:00") == ["00:30", "01:30", "02:30"]


def test_rows_without_a_time_and_bad_ones_keep_their_places() -> None:
    text = '{"time": "2026-10-25 02:30"}\n{"a": 1}\n7,\n{"time": "2026-10-25 02:10", "a": null}\n'
    data = io.BytesIO(text.encode() + b'{"time": null, "a": 2}\n{"time": "2026-10-25 03:10"}\n')
    rows = list(read_rows(BoundedLines(data), "jsonl", TimeReader.parse(None, None, BERLIN)))
    assert [row.line for row in rows] == [1, 2, 3, 4, 5, 6]
    assert [isinstance(row, BadRow) for row in rows] == [False, False, True, False, False, False]


def test_no_more_rows_are_held_than_memory_has_room_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(times, "HELD_ROWS_MAX", 3)
    assert read("01:30 02:00 02:10 02:20 02:30 02:00 03:00") == [
        "23:30", "bad", "bad", "bad", "00:30", "01:00", "02:00"
    ]  # fmt: skip


@pytest.mark.parametrize(
    "line",
    [
        '{"time": 1795341600000}',
        '{"time": "9999-12-31T23:59:59-05:00"}',
        '{"v": 1' + "0" * 40 + "}",
        '{"v": 1' + "0" * 400 + "}",
        '{"time": 1e308}',
        '{"time": [1]}',
        '{"time": {"historic": 1}}',
    ],
)
@pytest.mark.parametrize("form", [None, "unix", "unix-ns"])
def test_whatever_a_row_holds_it_is_a_row_or_a_bad_row(line: str, form: str | None) -> None:
    data = io.BytesIO(line.encode() + b"\n")
    assert (
        len(list(read_rows(BoundedLines(data), "jsonl", TimeReader.parse(None, form, "UTC")))) == 1
    )


@pytest.mark.parametrize(
    "local", ["02:30:05 02:30:04 02:30:06 03:30:00", "02:00 02:55 02:50 02:58 03:10", "02:59 02:55"]
)
def test_a_row_that_came_too_late_is_no_clock_that_was_put_back(local: str) -> None:
    found = read(local)
    assert [each for each in found if each == "bad"] == ["bad"] * sum(
        each.startswith("02:") for each in local.split()
    )
