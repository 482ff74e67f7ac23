from __future__ import annotations

import io

import pytest
from rich.console import Console

from edge_agent.cli.demo.view import DemoMoment, DemoScreen, PlainView, make_view

MOMENT = DemoMoment(
    seconds=12.3,
    sensors=[("greenhouse/1", 1200, 1100), ("host", 12, 12)],
    uplink="CUT",
    cuts=2,
    backlog=345,
    at_hub=None,
    page="http://127.0.0.1:9",
)


def test_a_plain_moment_is_one_line_with_everything_that_counts(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with PlainView() as view:
        view.show(MOMENT)
        view.say("the uplink is cut")
    assert capsys.readouterr().out.splitlines() == [
        "  12 s  uplink CUT  sent 1,212  acked 1,112  backlog 345  at the hub ?",
        "the uplink is cut",
    ]


def test_the_picture_shows_each_sensor_the_cable_and_the_latest_events() -> None:
    with DemoScreen() as view:
        view.show(MOMENT)
        for number in range(10):
            view.say(f"event {number}")
        out = io.StringIO()
        Console(file=out, width=120).print(view._picture(MOMENT))
    text = out.getvalue()
    for told in ("greenhouse/1", "1,200", "1,100", "CUT", "holds 345", "http://127.0.0.1:9"):
        assert told in text
    assert "event 9" in text
    assert "event 3" not in text


def test_without_a_terminal_lines_are_printed() -> None:
    assert isinstance(make_view(), PlainView)
    assert isinstance(make_view(plain=False), DemoScreen)
