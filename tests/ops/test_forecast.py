"""From positions over time to what the picture says of the room and the backlog."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import pytest

from edge_agent.config import parse
from edge_agent.metrics import Metrics
from edge_agent.ops.forecast import (
    NOTHING,
    Drain,
    LaneBacklog,
    LogRates,
    Loss,
    PositionSample,
    Projections,
    Room,
    about_budget,
    about_card,
    about_log,
    about_upstream,
    about_wear,
    between,
    drain,
    loss,
)
from edge_agent.ops.status import LaneStatus, LogStatus, UpstreamStatus
from edge_agent.wear import Budget
from tests.ops.pictures import LOG, STRETCH, UPSTREAM, WEAR

CONFIG = """
[[upstream]]
name = "hub"
url = "wss://hub.example:8765/forward"
batch_age = "5s"
[[upstream]]
name = "extra"
url = "https://cloud.example/in"
required = false
"""


@dataclass
class Positions:
    """Of the log what projections ask: 100 bytes a record, nothing trimmed."""

    last: dict[str, int] = field(default_factory=lambda: {"main": 0})
    #: Numbers that a restore passed over.
    passed: tuple[int, int] = (1, 0)

    def names(self) -> tuple[str, ...]:
        return tuple(self.last)

    def last_seq(self, log: str) -> int:
        return self.last[log]

    def given(self, log: str, after: int, last: int) -> int:
        first, end = self.passed
        return max(0, last - after) - max(0, min(end, last) - max(first, after + 1) + 1)


class Story:
    """Records come at 10 a second; ``out`` says how fast each upstream takes them."""

    def __init__(self, when_full: str = "discard-oldest") -> None:
        self.log, self.metrics = Positions(), Metrics()
        self.projections = Projections(parse(CONFIG, "test"), self.log, self.metrics)  # type: ignore[arg-type]  # only what is asked
        self.floors = {"hub": 0.0, "extra": 0.0}
        self.connected = {"hub": True, "extra": True}
        self.when_full = when_full
        self.phase = "sending"
        self.now = 0.0

    def run(self, seconds: int, *, into: float = 10, **out: float) -> None:
        for _ in range(0, seconds, 10):
            self.now += 10
            self.log.last["main"] += round(10 * into)
            for name, rate in out.items():
                floor = self.floors[name] + rate * 10
                self.floors[name] = min(floor, self.log.last["main"])
                self.connected[name] = rate > 0
            self.projections.sample(self.now, self.upstreams())

    def upstreams(self) -> tuple[UpstreamStatus, ...]:
        shown = []
        for name, floor in self.floors.items():
            backlog = self.log.last["main"] - int(floor)
            lane = LaneStatus(
                "main", self.phase, self.connected[name], int(floor), backlog, backlog / 10
            )
            one = replace(
                UPSTREAM, name=name, required=name == "hub", lanes=(lane,),
                acknowledged_records=int(floor), acknowledged_bytes=20 * int(floor),
            )  # fmt: skip
            shown.append(replace(one, connected=self.connected[name]))
        return tuple(shown)

    def look(self, share_bytes: int = 10_000_000) -> tuple[LogStatus, dict[str, UpstreamStatus]]:
        last = self.log.last["main"]
        log = replace(
            LOG, bytes=last * 100, share_bytes=share_bytes, first_seq=1, last_seq=last,
            when_full=self.when_full,
        )  # fmt: skip
        (told,), upstreams = self.projections.project(
            self.now, (log,), self.upstreams(), interval_s=1.0, clock_synced=True
        )
        return told, {one.name: one for one in upstreams}


def test_what_each_upstream_takes_a_second_is_told_once_it_is_known() -> None:
    story = Story()
    story.run(10, hub=5)
    assert story.look()[1]["hub"].records_per_s is None
    story.run(600, hub=5, extra=0)
    upstreams = story.look()[1]
    hub, extra = upstreams["hub"], upstreams["extra"]
    assert (hub.records_per_s, hub.bytes_per_s) == (pytest.approx(5), pytest.approx(100))
    assert (extra.records_per_s, extra.bytes_per_s) == (0, 0)


def test_numbers_that_a_restore_passed_over_are_no_speed() -> None:
    story = Story()
    story.log.passed = (1001, 1000 + 2**20)
    story.log.last["main"] = 100_000 + 2**20
    story.floors = {"hub": 800.0, "extra": 800.0}
    story.run(60, hub=5, extra=5)
    # Past them at once: the next record has a number that is a million higher.
    story.floors = {"hub": 1100.0 + 2**20, "extra": 1100.0 + 2**20}
    story.run(60, hub=5, extra=5)
    left = story.log.given("main", int(story.floors["hub"]), story.log.last["main"])
    backlog = story.look()[1]["hub"].drains_in_s
    assert backlog is None or backlog > left / 20


def test_of_an_upstream_that_is_new_nothing_is_said_until_its_speed_is_known() -> None:
    story = Story()
    del story.floors["extra"]
    story.run(600, hub=10)
    # As by a reload; a backlog that was just divided off is such a lane, too.
    story.floors["extra"], story.connected["extra"] = 0.0, True
    story.run(30, hub=10, extra=20)
    new = story.look()[1]["extra"]
    assert (new.drains_in_s, new.outlook) == (None, None)
    story.run(120, hub=10, extra=20)
    new = story.look()[1]["extra"]
    assert new.outlook is not None and "drains in" in new.outlook


def test_while_all_is_well_nothing_is_said() -> None:
    story = Story()
    story.run(3600, hub=10, extra=10)
    log, upstreams = story.look()
    assert (log.loss_in_s, log.outlook) == (None, None)
    assert [(one.drains_in_s, one.outlook) for one in upstreams.values()] == [(None, None)] * 2


def test_while_an_upstream_is_away_the_room_left_is_told_in_time() -> None:
    story = Story()
    story.run(3600, hub=10, extra=10)
    story.run(1800, hub=0, extra=10)
    log, upstreams = story.look()
    # 18,000 of 100,000 records that have room wait; 10 come each second.
    assert log.loss_in_s == pytest.approx(8200, rel=0.01)
    assert log.outlook == "at today's rate 2 h until the oldest undelivered record is lost"
    assert upstreams["hub"].outlook is None


def test_back_again_the_backlog_drains_and_nothing_is_lost() -> None:
    story = Story()
    story.run(1800, hub=0, extra=10)
    story.run(200, hub=30, extra=10)
    log, upstreams = story.look()
    assert log.loss_in_s is None
    # 18,000 + 2,000 - 6,000 wait, and 20 go each second beyond those that come.
    assert upstreams["hub"].drains_in_s == pytest.approx(700)
    assert upstreams["hub"].outlook == "the backlog drains in 12 min at this link"
    assert upstreams["extra"].outlook is None


def test_a_link_that_is_too_slow_does_not_drain_and_loses_later() -> None:
    story = Story(when_full="refuse")
    story.run(1800, hub=0, extra=10)
    story.run(600, hub=5, extra=10)
    log, upstreams = story.look()
    assert upstreams["hub"].drains_in_s is None
    assert upstreams["hub"].outlook is not None and "does not drain" in upstreams["hub"].outlook
    # 21,000 wait; five more come each second than go.
    assert log.loss_in_s == pytest.approx(79_000 / 5, rel=0.01)
    assert log.outlook is not None and log.outlook.endswith("until senders are told to wait")


def test_nothing_is_said_in_the_first_seconds() -> None:
    story = Story()
    story.run(20, hub=0, extra=0)
    assert story.look()[0].loss_in_s is None
    story.run(30, hub=0, extra=0)
    assert story.look()[0].loss_in_s is not None


def test_what_happens_now_is_said_as_such() -> None:
    story = Story()
    story.run(600, hub=0, extra=10)
    story.metrics.add("records_discarded_total", 500, "main")
    log, _ = story.look()
    assert (log.loss_in_s, log.outlook) == (0.0, "the oldest undelivered records are being lost")
    story.run(300, hub=10, extra=10)
    assert story.look()[0].outlook != log.outlook  # two minutes later it is over


def test_refusals_count_for_two_minutes() -> None:
    story = Story(when_full="refuse")
    story.run(600, hub=0, extra=10)
    story.metrics.add("records_refused_total", 7, "main")
    log, _ = story.look()
    assert (log.refused_lately, log.outlook) == (7, "senders are told to wait")
    story.run(300, hub=0, extra=10)
    assert story.look()[0].refused_lately == 0


def test_a_log_that_thins_begins_before_it_is_full() -> None:
    story = Story(when_full="thin-oldest")
    story.run(1800, hub=0, extra=10)
    log, _ = story.look(share_bytes=2_000_000)
    # 18,000 of 20,000 records are there: nine tenths.
    assert log.outlook == "the oldest undelivered records are being thinned"
    log, _ = story.look(share_bytes=3_000_000)
    assert log.loss_in_s == pytest.approx(900)
    assert log.outlook == (
        "at today's rate 15 min until the oldest undelivered records are thinned"
    )


def test_an_upstream_that_a_person_paused_is_like_one_that_is_away() -> None:
    story = Story()
    story.run(1800, hub=0, extra=10)
    story.connected["hub"], story.phase = True, "paused"
    log, upstreams = story.look()
    assert upstreams["hub"].outlook is None
    assert log.loss_in_s == pytest.approx(8200, rel=0.01)


DAY_S = 86_400.0
#: 100 bytes a record, 10,000 of them; room for 60,000.
ROOM = Room("main", bytes=1_000_000, share_bytes=6_000_000, held=10_000, keep_s=30 * DAY_S)
OFFLINE = LaneBacklog("hub", "main", False, True, backlog=10_000, age_s=60.0, late_s=30.0)
LINK = ("hub", "main")


def rates(into: float, out: float = 0.0) -> LogRates:
    return LogRates(60.0, {"main": into}, {LINK: out}, {}, {})


@pytest.mark.parametrize(
    "room,lane,into,out,expected",
    [
        # Away: 5,000,000 bytes are left, 1,000 come each second.
        (ROOM, OFFLINE, 10, 0, Loss(5000, "share")),
        # Half of what is held is delivered and gives way.
        (ROOM, replace(OFFLINE, backlog=5_000), 10, 0, Loss(5500, "share")),
        # There, but slower than what comes in.
        (ROOM, replace(OFFLINE, connected=True), 10, 6, Loss(12_500, "share")),
        # There, and it drains.
        (ROOM, replace(OFFLINE, connected=True), 10, 11, None),
        (ROOM, replace(OFFLINE, connected=True), 10, 10, None),
        # What a lane did before it went away does not count.
        (ROOM, OFFLINE, 10, 11, Loss(5000, "share")),
        # Nothing comes in; nothing is held; nothing waits; not late.
        (ROOM, OFFLINE, 0, 0, None),
        (replace(ROOM, held=0, bytes=0), OFFLINE, 10, 0, None),
        (ROOM, replace(OFFLINE, backlog=0), 10, 0, None),
        (ROOM, replace(OFFLINE, connected=True, age_s=29.0), 10, 0, None),
        # Full: now.
        (replace(ROOM, share_bytes=999_999), OFFLINE, 10, 0, Loss(0, "share")),
        # Another log's lane does not matter.
        (ROOM, replace(OFFLINE, log="alarms"), 10, 0, None),
        # A required upstream holds age back, another does not.
        (replace(ROOM, keep_s=100.0), OFFLINE, 10, 0, Loss(5000, "share")),
        (replace(ROOM, keep_s=100.0), replace(OFFLINE, required=False), 10, 0, Loss(40, "age")),
        # Of ten that come six go: the oldest ages by 0.4 s a second.
        (
            replace(ROOM, keep_s=100.0),
            replace(OFFLINE, required=False, connected=True),
            10, 6, Loss(100, "age"),
        ),
        # Age is not judged where the clock may not, nor where the oldest was never looked at.
        (replace(ROOM, keep_s=None), replace(OFFLINE, required=False), 10, 0, Loss(5000, "share")),
        (
            replace(ROOM, keep_s=100.0), replace(OFFLINE, required=False, age_s=0.0), 10, 0,
            Loss(5000, "share"),
        ),
    ],
)  # fmt: skip
def test_when_the_oldest_undelivered_record_is_due(
    room: Room, lane: LaneBacklog, into: float, out: float, expected: Loss | None
) -> None:
    found = loss(room, [lane], rates(into), rates(into, out))
    if expected is None:
        assert found is None
    else:
        assert found is not None and found.ending == expected.ending
        assert found.seconds == pytest.approx(expected.seconds)


def test_of_several_upstreams_the_first_to_lose_is_told() -> None:
    slow = LaneBacklog("cloud", "main", True, False, 2_000, 60.0, 30.0)
    today = rates(10)
    recent = LogRates(60.0, {"main": 10.0}, {LINK: 0.0, ("cloud", "main"): 5.0}, {}, {})
    found = loss(ROOM, [slow, OFFLINE], today, recent)
    assert found == Loss(5000, "share")


def test_before_there_are_rates_nothing_is_said() -> None:
    assert loss(ROOM, [OFFLINE], NOTHING, NOTHING) is None
    assert loss(ROOM, [OFFLINE], rates(10), NOTHING) is None
    assert drain([replace(OFFLINE, connected=True)], NOTHING) is None


@pytest.mark.parametrize(
    "lane,into,out,expected",
    [
        (replace(OFFLINE, connected=True), 10, 30, Drain(500, 30, 10)),
        (replace(OFFLINE, connected=True), 0, 20, Drain(500, 20, 0)),
        (replace(OFFLINE, connected=True), 10, 10, Drain(None, 10, 10)),
        (replace(OFFLINE, connected=True), 20, 10, Drain(None, 10, 20)),
        (OFFLINE, 10, 30, None),
        (replace(OFFLINE, connected=True, age_s=1.0), 10, 30, None),
        (replace(OFFLINE, connected=True, backlog=0), 10, 30, None),
    ],
)
def test_how_soon_a_backlog_drains(
    lane: LaneBacklog, into: float, out: float, expected: Drain | None
) -> None:
    assert drain([lane], rates(into, out)) == expected


def test_only_the_lanes_that_are_behind_drain() -> None:
    behind = replace(OFFLINE, connected=True)
    alarms = LaneBacklog("hub", "alarms", True, True, 3, 0.1, 30.0)
    recent = LogRates(
        60.0, {"main": 10.0, "alarms": 50.0}, {LINK: 30.0, ("hub", "alarms"): 50.0}, {}, {}
    )
    assert drain([behind, alarms], recent) == Drain(500, 30, 10)


def test_rates_are_differences_over_time_and_a_rewind_stands_still() -> None:
    old = PositionSample({"main": 100}, {LINK: 90, ("cloud", "main"): 50}, {"main": 5}, {"main": 1})
    new = PositionSample(
        {"main": 400, "new": 7}, {LINK: 390, ("cloud", "main"): 20}, {"main": 9}, {}
    )
    assert between(old, new, 10) == LogRates(
        10, {"main": 30, "new": 0}, {LINK: 30, ("cloud", "main"): 0}, {"main": 4}, {}
    )
    assert between(old, new, 0) is NOTHING


@pytest.mark.parametrize(
    "loss,when_full,now,expected",
    [
        (
            Loss(61 * 3600, "share"), "discard-oldest", False,
            "at today's rate 61 h until the oldest undelivered record is lost",
        ),
        (
            Loss(14 * 60, "share"), "refuse", False,
            "at today's rate 14 min until senders are told to wait",
        ),
        (
            Loss(9 * 86_400, "share"), "thin-oldest", False,
            "at today's rate 9 days until the oldest undelivered records are thinned",
        ),
        (
            Loss(59, "share"), "thin-oldest", False,
            "the oldest undelivered records are being thinned",
        ),
        # There is nothing left to thin.
        (Loss(0, "share"), "thin-oldest", True, "the oldest undelivered records are being lost"),
        (
            Loss(80, "age"), "refuse", False,
            "at today's rate 80 s until the oldest undelivered record is too old to be kept",
        ),
        (None, "refuse", True, "senders are told to wait"),
        (Loss(5, "share"), "discard-oldest", True, "the oldest undelivered records are being lost"),
        (None, "discard-oldest", False, None),
    ],
)  # fmt: skip
def test_how_long_the_room_lasts(
    loss: Loss | None, when_full: str, now: bool, expected: str | None
) -> None:
    assert about_log(loss, when_full, now=now) == expected


@pytest.mark.parametrize(
    "drain,expected",
    [
        (Drain(14 * 60.0, 30, 10), "the backlog drains in 14 min at this link"),
        (
            Drain(None, 120, 200),
            "the backlog does not drain at this link: 120 records/s go out, 200 come in",
        ),
        (None, None),
    ],
)
def test_how_soon_a_backlog_drains_is_reckoned(drain: Drain | None, expected: str | None) -> None:
    assert about_upstream(drain) == expected


def test_outside_of_its_windows_an_upstream_is_said_to_wait_and_is_like_one_that_is_away() -> None:
    assert about_upstream(None, "Mon 01:00") == "waits for Mon 01:00"
    story = Story()
    story.run(1800, hub=0, extra=10)
    story.connected["hub"], story.phase = True, "waiting"
    log, _ = story.look()
    assert log.loss_in_s == pytest.approx(8200, rel=0.01)


def test_how_long_the_card_lasts() -> None:
    assert about_card(WEAR) == (
        "the 30 TB that the card is made for last about 14 years at today's rate"
    )
    assert about_card(replace(WEAR, life_s=0.0)) == (
        "the 30 TB that the card is made for have been written"
    )
    assert about_card(replace(WEAR, life_s=None)) is None
    assert about_card(replace(WEAR, endurance_bytes=None)) is None


def test_what_the_budget_takes() -> None:
    assert about_budget(WEAR) == "commits are spread to 12 s to keep 2 GB a day"
    assert about_budget(replace(WEAR, budget=None)) is None
    unspread = Budget(2_000_000_000, 1.0, 1.0, at_bound=False, kept=True)
    assert about_budget(replace(WEAR, budget=unspread)) is None


def test_a_budget_that_is_not_kept_says_whether_an_interval_could() -> None:
    broken = Budget(1_000_000_000, 60.0, 60.0, at_bound=True, kept=False)
    of_commits = replace(WEAR, budget=broken)
    told = about_budget(of_commits)
    assert told == (
        "1.92 GB a day are written, more than the budget of 1 GB a day, though commits are spread"
        " to 60 s"
    )
    # Of 1.92 GB nearly all are the blocks of the records.
    of_data = replace(STRETCH, amplification=0.4, block_amplification=0.37)
    told = about_budget(replace(of_commits, hour=of_data))
    assert told is not None
    assert told.endswith("; the records alone are 1.78 GB, so no interval can keep it")


def test_everything_about_wear_is_at_most_two_sentences() -> None:
    assert about_wear(WEAR) == (about_card(WEAR), about_budget(WEAR))
    assert about_wear(replace(WEAR, life_s=None, budget=None)) == ()
