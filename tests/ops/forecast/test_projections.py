"""From positions over time to what the picture says of the room and the backlog."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import pytest

from edge_agent.config import parse
from edge_agent.metrics import Metrics
from edge_agent.ops.forecast.projections import Projections
from edge_agent.ops.status import LaneStatus, LogStatus, UpstreamStatus
from tests.ops.pictures import LOG, UPSTREAM

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

    def names(self) -> tuple[str, ...]:
        return tuple(self.last)

    def last_seq(self, log: str) -> int:
        return self.last[log]


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
            one = replace(UPSTREAM, name=name, required=name == "hub", lanes=(lane,))
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
