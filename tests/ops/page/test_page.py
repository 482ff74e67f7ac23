"""The page: says what the picture says, escapes everything, needs nothing from elsewhere."""

from __future__ import annotations

from dataclasses import replace
from html.parser import HTMLParser

from edge_agent.ops import health
from edge_agent.ops.page.page import ROWS_MAX, render_locked, render_page
from edge_agent.ops.status import AlarmStatus, RefusedStatus
from edge_agent.ops.streams import Seen
from tests.ops.pictures import CONNECTION, LOG, STATUS, STRETCH, UPSTREAM, WEAR, unwell

NOW_NS = 1_795_341_600_000_000_000


class Text(HTMLParser):
    """What a reader sees, and the tags that were really there."""

    def __init__(self) -> None:
        super().__init__()
        self.words: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def read(page: bytes) -> Text:
    text = Text()
    text.feed(page.decode())
    return text


def seen(stored_ns: int = NOW_NS - 3_000_000_000) -> Seen:
    return Seen("main", 12_345, 77, stored_ns, "pi-7/bme280")


def test_it_shows_streams_rates_backlog_and_fill() -> None:
    words = " ".join(read(render_page(STATUS, [("greenhouse/2", seen())], NOW_NS)).words)
    for expected in (
        "greenhouse/2", "12.3 k", "3 s ago", "1 234/s", "85.6 KiB/s", "4 711", "sending",
        "250/s", "98.8 k", "12 %", "pi-7/bme280", "5f0c5f0c5f0c", "ok",
    ):  # fmt: skip
        assert expected in words, expected


def test_reasons_and_warnings_are_sentences_on_it() -> None:
    facts = unwell(clock_synced=False, problem="input/output error")
    page = read(render_page(replace(STATUS, health=health.judge(facts)), [], NOW_NS))
    words = " ".join(page.words)
    assert "failed" in words and "input/output error" in words and "clock has not been set" in words


def test_the_outlook_of_logs_and_upstreams_is_on_it() -> None:
    log = replace(LOG, outlook="at today's rate 61 h until the oldest undelivered record is lost")
    hub = replace(UPSTREAM, outlook="the backlog drains in 14 min at this link")
    page = read(render_page(replace(STATUS, logs=(log,), upstreams=(hub,)), [], NOW_NS))
    assert log.outlook in page.words and hub.outlook in page.words


def test_whatever_others_named_is_escaped() -> None:
    evil = "<script>alert(1)</script>\"'&"
    status = replace(
        STATUS,
        upstreams=(replace(UPSTREAM, name=evil, phase=evil, error=evil),),
        connections=(replace(CONNECTION, source=evil, stream=evil, peer=evil, mode=evil),),
        agent=replace(STATUS.agent, id=evil),
    )
    strange = replace(seen(), source=evil)
    harmless = read(render_page(STATUS, [("a", seen())], NOW_NS))
    page = read(render_page(status, [(evil, strange)], NOW_NS))
    assert [tag for tag, _ in page.tags] == [tag for tag, _ in harmless.tags]
    assert page.words.count(evil) >= 9


def test_of_many_streams_those_heard_of_last_are_shown_and_all_are_counted() -> None:
    many = [(f"s/{index:04}", seen(NOW_NS - index * 10**9)) for index in range(ROWS_MAX + 50)]
    words = read(render_page(STATUS, many, NOW_NS)).words
    assert "s/0000" in words and f"s/{ROWS_MAX - 1:04}" in words
    assert f"s/{ROWS_MAX:04}" not in words
    assert any(str(ROWS_MAX + 50) in word for word in words)


def test_the_locked_page_tells_nothing_about_the_agent() -> None:
    assert b"5f0c" not in render_locked() and b"<form>" in render_locked()


def test_alarms_that_are_on_are_shown_with_their_streams_and_escaped() -> None:
    assert "Alarms that are on" not in read(render_page(STATUS, [], NOW_NS)).words
    one = AlarmStatus("hot", 't == "<b>"', "greenhouse/1", "2026-11-22T09:00:00Z", 31.5)
    page = render_page(replace(STATUS, alarms=(one,)), [], NOW_NS)
    words = " ".join(read(page).words)
    assert "greenhouse/1" in words and "31.5" in words and 't == "<b>"' in words
    assert b'<b>"' not in page


def test_who_was_refused_is_shown_with_what_helps_and_escaped() -> None:
    assert "Refused peers" not in read(render_page(STATUS, [], NOW_NS)).words
    one = RefusedStatus(
        "192.0.2.7",
        "listen.address",
        "origin",
        "The origin 'http://<script>' is not listed in listen.origins.",
        1234,
        "2026-11-22T09:00:00Z",
        "2026-11-22T09:59:00Z",
        60.0,
    )
    page = read(render_page(replace(STATUS, refused=(one,)), [], NOW_NS))
    words = " ".join(page.words)
    assert "192.0.2.7" in words and "listen.origins" in words and "1 234" in words
    assert b"<script>' is" not in render_page(replace(STATUS, refused=(one,)), [], NOW_NS)


def words(**changes: object) -> str:
    status = replace(STATUS, wear=replace(WEAR, **changes))  # type: ignore[arg-type]  # fields by name
    return " ".join(read(render_page(status, [], NOW_NS)).words)


def test_bytes_a_day_amplification_life_and_budget_are_on_it() -> None:
    for expected in (
        "1.92 GB", "2.4 GB", "3 000", "26.7 kB", "3.5", "0.37",
        "The 30 TB that the card is made for last about 14 years at today's rate.",
        "Commits are spread to 12 s to keep 2 GB a day.",
        "since 2026-01-01: 2 TB", "mmcblk0", "without the journal",
    ):  # fmt: skip
        assert expected in words(), expected


def test_who_has_not_stated_an_endurance_is_told_that_one_can() -> None:
    assert "Set wear.endurance" in words(endurance_bytes=None, life_s=None)
    assert "Set wear.endurance" not in words()


def test_a_stretch_that_is_not_whole_yet_says_so() -> None:
    young = replace(STRETCH, seconds=720.0)
    assert "(12 min so far)" in words(hour=young, day=young)
    assert "so far" not in words(day=replace(STRETCH, seconds=86_400.0))


def test_what_nobody_counts_is_a_dash() -> None:
    nothing = replace(
        STRETCH, written_bytes=None, written_per_day=None, card_bytes=None, card_per_day=None,
        bytes_per_commit=None, amplification=None, block_amplification=None,
    )  # fmt: skip
    told = words(
        counted_by=None, card_counted_by=None, hour=nothing, day=nothing, since_start=nothing,
        total_bytes=None, total_card_bytes=None,
    )  # fmt: skip
    assert told.count("–") >= 18
    assert "Nobody counts here what is written." in told
