from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from rich.cells import cell_len

from edge_agent.cli.top.picture import AgentMoment, Screen, UpstreamRates, draw, sparkline
from edge_agent.ops.status import HealthVerdict, Reason
from tests.cli.top.pictured import answers, stream
from tests.ops.pictures import STATUS, UPSTREAM, WEAR

WIDE = Screen(120, 40)


def moment(*streams: dict[str, Any], **changes: Any) -> AgentMoment:
    found = answers(replace(STATUS, **changes), *streams)
    return AgentMoment(found["/api/status"], list(streams), {"hub": 12.5})


def texts(*given: Any, **options: Any) -> list[str]:
    return [text for text, _ in draw(*given, **options)]


def test_streams_are_shown_with_rate_age_last_values_and_a_sparkline() -> None:
    shown = texts(moment(stream("greenhouse/1", 2, 3, t=21.5, h=40)), WIDE, "rate")
    (row,) = [line for line in shown if line.startswith("greenhouse/1")]
    assert row.split() == ["greenhouse/1", "2", "2", "s", "t=21.5", "h=40", "▁▂▃█"]


def test_words_stand_behind_numbers_and_move_no_cursor() -> None:
    one = stream("lamp", 2, t=21) | {"words": {"POWER": "ON", "note": "\x1b[2J"}}
    shown = texts(moment(one), WIDE, "rate")
    assert any("t=21  POWER=ON  note=\\x1b[2J" in line for line in shown)


def test_upstreams_store_card_and_health_are_shown() -> None:
    away = replace(UPSTREAM, name="cloud", error="refused", drains_in_s=840.0, bytes_per_s=2048.0)
    reason = Reason("x", "Upstream cloud cannot be reached.")
    health = HealthVerdict("degraded", (reason,), ())
    picture = draw(moment(upstreams=(UPSTREAM, away), health=health), WIDE, "rate")
    lines = [text for text, _ in picture]
    assert "• Upstream cloud cannot be reached." in lines
    hub, cloud = (next(x for x in picture if x[0].startswith(name)) for name in ("hub", "cloud"))
    assert hub[0].split()[1:4] == ["4", "711", "12/s"]
    assert (
        "2 KiB/s" in cloud[0]
        and "14 min" in cloud[0]
        and cloud[0].endswith(": refused")
        and cloud[1] == "red"
    )
    assert any("card lasts 14 years" in line and "12 % of" in line for line in lines)
    assert any(line.startswith("in 1 234/s · out 1 000/s") for line in lines)
    assert [style for text, style in picture if text.endswith("· degraded")] == ["bold yellow"]


def test_an_upstream_that_waits_for_its_window_says_until_when() -> None:
    waits = replace(UPSTREAM, name="cloud", phase="waiting", outlook="waits for 01:00")
    (cloud,) = (x for x in draw(moment(upstreams=(waits,)), WIDE, "rate") if "cloud" in x[0])
    assert cloud[0].endswith("  waits for 01:00") and cloud[1] == ""


def test_where_the_cards_endurance_is_not_known_what_is_written_is_shown() -> None:
    lines = texts(moment(wear=replace(WEAR, life_s=None)), WIDE, "rate")
    assert any("1.92 GB a day to the card" in line for line in lines)


def test_streams_are_sorted_by_rate_or_by_name_and_the_other_way_round() -> None:
    told = moment(stream("b", 1), stream("a", 1), stream("c", 5))

    def order(sort: str, *, reverse: bool = False) -> list[str]:
        rows = texts(told, WIDE, sort, reverse=reverse)
        return [line[0] for line in rows if line[:2] in ("a ", "b ", "c ")]

    assert order("rate") == ["c", "a", "b"] and order("rate", reverse=True) == ["b", "a", "c"]
    assert order("name") == ["a", "b", "c"] and order("name", reverse=True) == ["c", "b", "a"]


@pytest.mark.parametrize("width, height", [(80, 24), (40, 10), (20, 3), (300, 100)])
def test_nothing_is_larger_than_the_screen(width: int, height: int) -> None:
    streams = [
        stream(
            f"greenhouse/{n}/a-long-name/of-a-sensor", n, 3, **{"Wärme 温度": n, "\x1b[2J": 1e300}
        )
        for n in range(200)
    ]
    upstreams = tuple(replace(UPSTREAM, name=f"up{n}", error="x" * 500) for n in range(9))
    reasons = tuple(Reason("x", "A sentence of many words. " * 20) for _ in range(9))
    told = moment(*streams, upstreams=upstreams, health=HealthVerdict("failed", reasons, ()))
    lines = texts(told, Screen(width, height), "rate", has_keys=True)
    assert len(lines) <= height
    assert all(cell_len(line) <= width and line.isprintable() for line in lines)


def test_a_screen_of_80_by_24_shows_what_fits_and_says_how_many_there_are() -> None:
    streams = [stream(f"s/{n:03}", 1, t=n) for n in range(100)]
    lines = texts(moment(*streams), Screen(80, 24), "name", has_keys=True)
    shown = [line for line in lines if line.startswith("s/")]
    assert len(lines) == 24 and len(shown) >= 10
    assert f"… and {100 - len(shown)} more" in lines
    assert lines[-1] == "100 streams by name · q quits · s sorts by rate or name · r reverses"


def test_a_terminal_without_more_than_ascii_gets_nothing_else() -> None:
    told = moment(stream("a", 0.5, Wärme=21.5), stream("b", 2), upstreams=(UPSTREAM,))
    lines = texts(told, Screen(60, 24, unicode=False), "rate")
    assert all(line.isascii() for line in lines)
    assert any("_.:#" in line for line in lines)


def test_why_there_is_no_newer_picture_stands_above_the_last_one() -> None:
    gone = replace(moment(stream("a", 1)), trouble="no agent answers at http://127.0.0.1:1.")
    assert draw(gone, WIDE, "rate")[0] == ("no agent answers at http://127.0.0.1:1.", "bold red")


@pytest.mark.parametrize(
    "values, expected",
    [
        ([], ""),
        ([5], "▄"),
        ([5, 5, 5], "▄▄▄"),
        ([0, 7], "▁█"),
        (list(range(8)), "▁▂▃▄▅▆▇█"),
        ([9, 9, 9, *range(8)], "▁▂▃▄▅▆▇█"),
        ([-1.7e308, 1.7e308, 0], "▁█▅"),
    ],
)
def test_a_sparkline_goes_from_the_lowest_to_the_highest(
    values: list[float], expected: str
) -> None:
    assert sparkline(values, 8) == expected


def test_a_sparkline_of_no_width_is_nothing() -> None:
    assert sparkline([1, 2], 0) == sparkline([1, 2], -3) == ""


def test_the_rate_of_an_upstream_is_what_it_took_in_the_last_seconds() -> None:
    rates = UpstreamRates()

    def at(uptime_s: float, **taken: int) -> dict[str, float | None]:
        ups = tuple(replace(UPSTREAM, name=n, acknowledged_records=c) for n, c in taken.items())
        status = answers(replace(STATUS, upstreams=ups))["/api/status"]
        status["agent"]["uptime_s"] = uptime_s
        return rates.note(status)

    assert at(100, hub=50) == {"hub": 1000}, "of one alone the agent itself knows"
    assert at(101, hub=60) == {"hub": 10}
    assert at(102, hub=80, cloud=5) == {"hub": 15, "cloud": None}
    for second in range(103, 130):
        last = at(second, hub=80, cloud=5)
    assert last == {"hub": 0, "cloud": 0}
    assert at(3, hub=0, cloud=0) == {"hub": None, "cloud": None}, "it was started again"
