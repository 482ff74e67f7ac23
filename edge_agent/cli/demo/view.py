"""What the demo shows while it runs: a picture that changes, or lines where nobody watches."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType
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
    def sent(self) -> int:
        """All sensors together."""
        return sum(sent for _, sent, _ in self.sensors)

    @property
    def acked(self) -> int:
        """All sensors together."""
        return sum(acked for _, _, acked in self.sensors)


class PlainView:
    """A line for each moment and each event."""

    def show(self, moment: DemoMoment) -> None:
        """One line."""
        print(
            f"{moment.seconds:4.0f} s  uplink {moment.uplink:3}  sent {moment.sent:,}"
            f"  acked {moment.acked:,}  backlog {_count(moment.backlog)}"
            f"  at the hub {_count(moment.at_hub)}",
            flush=True,
        )

    def say(self, event: str) -> None:
        """One line."""
        print(event, flush=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Nothing to clean up."""


class DemoScreen:
    """The same in place, with rich."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.live import Live

        self._live = Live(console=Console(), refresh_per_second=8)
        self._events: deque[str] = deque(maxlen=6)
        self._moment: DemoMoment | None = None

    def show(self, moment: DemoMoment) -> None:
        """Draw it."""
        self._moment = moment
        self._live.update(self._picture(moment))

    def say(self, event: str) -> None:
        """Keep it below the picture for a while."""
        seconds = 0.0 if self._moment is None else self._moment.seconds
        self._events.append(f"{seconds:4.0f} s  {event}")
        if self._moment is None:
            self._live.console.print(event)
        else:
            self.show(self._moment)

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._live.stop()

    def _picture(self, moment: DemoMoment) -> Any:
        from rich.console import Group
        from rich.table import Table
        from rich.text import Text

        table = Table(box=None, pad_edge=False, header_style="dim")
        table.add_column("sensor")
        table.add_column("sent", justify="right")
        table.add_column("acked", justify="right")
        for name, sent, acked in moment.sensors:
            table.add_row(name, f"{sent:,}", f"{acked:,}")
        table.add_row("all", f"{moment.sent:,}", f"{moment.acked:,}", style="bold")
        cable = "──▶" if moment.uplink == "up" else "─╳ "
        colour = "green" if moment.uplink == "up" else "red"
        path = Text.assemble(
            f"sensors {moment.sent:,} ──▶ agent (holds {_count(moment.backlog)}) ",
            (f"{cable} {moment.uplink}", f"bold {colour}"),
            f" ──▶ hub {_count(moment.at_hub)}",
        )
        foot = Text(
            f"{moment.seconds:.0f} s · uplink cut {moment.cuts} times · look at {moment.page}"
            " · Ctrl-C ends it and compares both sides",
            style="dim",
        )
        events = Text("\n".join(self._events), style="dim")
        return Group(path, Text(), table, Text(), events, foot)


def make_view(*, plain: bool | None = None) -> PlainView | DemoScreen:
    """For a terminal a picture, else lines; ``plain`` decides if given."""
    is_plain = not sys.stdout.isatty() if plain is None else plain
    return PlainView() if is_plain else DemoScreen()


def _count(records: int | None) -> str:
    return "?" if records is None else f"{records:,}"
