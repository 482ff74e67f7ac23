"""The demo's view: a picture that changes, or lines where nobody watches."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, Self


@dataclass(frozen=True, slots=True)
class DemoMoment:
    """Everything that is shown, at one moment.

    Attributes:
        seconds: since the demo began.
        sensors: name, records sent, records acked.
        uplink: ``up`` or ``CUT``.
        cuts: how often it was cut so far.
        backlog: records that the agent holds for the hub; None while that is not known.
        at_hub: records at the hub; None while that is not known.
        page: address of the agent's page.
    """

    seconds: float
    sensors: Sequence[tuple[str, int, int]]
    uplink: str
    cuts: int
    backlog: int | None
    at_hub: int | None
    page: str

    @property
    def totals(self) -> tuple[str, str]:
        """Records sent and acked, of all sensors together."""
        _, sent, acked = zip(*self.sensors, strict=True)
        return f"{sum(sent):,}", f"{sum(acked):,}"


class PlainView(ExitStack):
    """A line for each moment and each event."""

    interval_s = 1.0

    def show(self, moment: DemoMoment) -> None:
        """Tell of a moment."""
        sent, acked = moment.totals
        print(
            f"{moment.seconds:4.0f} s  uplink {moment.uplink:3}  sent {sent}  acked {acked}"
            f"  backlog {_count(moment.backlog)}  at the hub {_count(moment.at_hub)}",
            flush=True,
        )

    def say(self, event: str) -> None:
        """Tell of an event."""
        print(event, flush=True)


class DemoScreen(PlainView):
    """The same in place, with rich."""

    interval_s = 0.25

    def __init__(self) -> None:
        from rich.live import Live

        super().__init__()
        self._live = Live(refresh_per_second=8)
        self._events: deque[str] = deque(maxlen=6)
        self._moment: DemoMoment | None = None

    def __enter__(self) -> Self:
        self.enter_context(self._live)
        return self

    def show(self, moment: DemoMoment) -> None:
        """Draw it."""
        self._moment = moment
        self._live.update(self._picture(moment))

    def say(self, event: str) -> None:
        """Keep it below the picture for a while."""
        if self._moment is None:
            self._live.console.print(event)
        else:
            self._events.append(f"{self._moment.seconds:4.0f} s  {event}")
            self.show(self._moment)

    def _picture(self, moment: DemoMoment) -> Any:
        from rich.console import Group
        from rich.table import Table
        from rich.text import Text

        sent, acked = moment.totals
        table = Table(box=None, pad_edge=False, header_style="dim")
        table.add_column("sensor")
        table.add_column("sent", justify="right")
        table.add_column("acked", justify="right")
        for name, *counts in moment.sensors:
            table.add_row(name, *(f"{count:,}" for count in counts))
        table.add_row("all", sent, acked, style="bold")
        cable, colour = ("──▶", "green") if moment.uplink == "up" else ("─╳ ", "red")
        path = Text.assemble(
            f"sensors {sent} ──▶ agent (holds {_count(moment.backlog)}) ",
            (f"{cable} {moment.uplink}", f"bold {colour}"),
            f" ──▶ hub {_count(moment.at_hub)}",
        )
        foot = (
            f"{moment.seconds:.0f} s · uplink cut {moment.cuts} times · look at {moment.page}"
            " · Ctrl-C ends it and compares both sides"
        )
        below = Text("\n".join([*self._events, foot]), style="dim")
        return Group(path, Text(), table, Text(), below)


def make_view(*, plain: bool | None = None) -> PlainView:
    """For a terminal a picture, else lines; ``plain`` decides if given."""
    is_plain = not sys.stdout.isatty() if plain is None else plain
    return PlainView() if is_plain else DemoScreen()


def _count(records: int | None) -> str:
    return "?" if records is None else f"{records:,}"
