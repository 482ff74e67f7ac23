"""The page: says what the picture says, escapes everything, needs nothing from elsewhere."""

from __future__ import annotations

from dataclasses import replace
from html.parser import HTMLParser

from edge_agent.ops import health
from edge_agent.ops.page.page import render_locked, render_page
from edge_agent.ops.page.stream_list import StreamRow
from edge_agent.ops.status import AlarmStatus, BridgeStatus, RefusedStatus
from edge_agent.ops.streams import Seen
from edge_agent.store import Quarantined
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


def row(name: str) -> StreamRow:
    return StreamRow(name, seen())


def test_it_shows_streams_rates_backlog_and_fill() -> None:
    words = " ".join(read(render_page(STATUS, [row("greenhouse/2")], NOW_NS)).words)
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


def test_acknowledgements_that_wait_for_an_upstream_are_on_it() -> None:
    hub = replace(UPSTREAM, bridge=BridgeStatus(1500, 0))
    page = read(render_page(replace(STATUS, upstreams=(hub,)), [], NOW_NS))
    assert any("wait for it (bridge): 1 500 records" in word for word in page.words)


def test_whatever_others_named_is_escaped() -> None:
    evil = "<script>alert(1)</script>\"'&"
    status = replace(
        STATUS,
        upstreams=(replace(UPSTREAM, name=evil, phase=evil, error=evil),),
        connections=(replace(CONNECTION, source=evil, stream=evil, peer=evil, mode=evil),),
        agent=replace(STATUS.agent, id=evil),
    )
    strange = replace(row(evil), seen=replace(seen(), source=evil))
    failed = replace(STATUS, upstreams=(replace(UPSTREAM, error="no answer"),))
    harmless = read(render_page(failed, [row("a")], NOW_NS))
    page = read(render_page(status, [strange], NOW_NS))
    assert [tag for tag, _ in page.tags] == [tag for tag, _ in harmless.tags]
    assert page.words.count(evil) >= 9


def test_the_locked_page_tells_nothing_about_the_agent_and_goes_on_to_what_was_asked_for() -> None:
    page = render_locked('/stream/a?last="1h"', "This token is not known.")
    assert b"5f0c" not in page and b'<form method="post" action="/login">' in page
    (then,) = [a["value"] for tag, a in read(page).tags if a.get("name") == "then"]
    assert then == '/stream/a?last="1h"' and b'role="alert">This token is not known.' in page
    assert b'role="alert"' not in render_locked("/")


def test_the_newest_of_quarantine_is_shown_with_its_reason_and_escaped() -> None:
    assert b"What could not be used" not in render_page(STATUS, [], NOW_NS)
    long = b"<b>" + b"x" * 500
    kept = [
        (2, Quarantined("bad_time", "no <time>", "a/1", "pi", 3, NOW_NS - 10**10, b"\xff\x00")),
        (1, Quarantined("bad_json", "no JSON", "", "", 0, NOW_NS, long)),
    ]
    status = replace(STATUS, store=replace(STATUS.store, quarantine_entries=1234))
    page = read(render_page(status, [], NOW_NS, quarantine=kept))
    words = " ".join(page.words)
    assert "no <time>" in words and "10 s ago" in words and "ff 00" in words and "1 234" in words
    assert "<b>xxx" in words and "…" in words and long.decode() not in words


def test_how_long_a_backlog_takes_to_drain_is_on_it() -> None:
    hub = replace(UPSTREAM, drains_in_s=840.0)
    assert "14 min" in read(render_page(replace(STATUS, upstreams=(hub,)), [], NOW_NS)).words


def test_who_is_signed_in_can_sign_out() -> None:
    assert b'action="/logout"' in render_page(STATUS, [], NOW_NS, signed_in=True)
    assert b'action="/logout"' not in render_page(STATUS, [], NOW_NS)


def test_the_words_that_were_searched_for_stay_in_the_field() -> None:
    page = read(render_page(STATUS, [row("a")], NOW_NS, wanted='"b"'))
    (value,) = [a["value"] for tag, a in page.tags if a.get("type") == "search"]
    assert value == '"b"' and "No stream has such a name." in page.words


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


def test_how_many_alarms_are_on_and_how_many_streams_were_found_is_said_by_a_screen_reader() -> (
    None
):
    alarm = AlarmStatus("hot", "t above 30", "greenhouse/1", "2026-11-22T09:00:00Z", 31.5)
    verdict, said = '<span id="verdict" role="status"', "all is well; 2 alarms are on</span>"
    html = render_page(replace(STATUS, alarms=(alarm, alarm)), [], NOW_NS).decode()
    assert verdict in html and said in html
    assert "; 1 alarm is on" in render_page(replace(STATUS, alarms=(alarm,)), [], NOW_NS).decode()
    assert "alarms are on" not in render_page(STATUS, [], NOW_NS).decode()
    rows = [row("barn/1"), row("shed/1")]
    found = '<span class="soft" id="found" role="status" data-fresh>'
    assert (
        f"{found}1 of 2 found</span>" in render_page(STATUS, rows, NOW_NS, wanted="barn").decode()
    )
    assert f"{found}</span>" in render_page(STATUS, rows, NOW_NS).decode()


def test_a_token_that_did_not_do_is_told_where_the_field_is() -> None:
    page = read(render_locked("/", "This token is not known."))
    (field,) = [a for tag, a in page.tags if a.get("name") == "token"]
    assert field["aria-invalid"] == "true" and field["aria-describedby"] == "trouble"
    assert any(attributes.get("id") == "trouble" for _, attributes in page.tags)
    assert b"aria-invalid" not in render_locked("/")
