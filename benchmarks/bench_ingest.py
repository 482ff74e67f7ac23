"""How many records a second become durable: the agent and its peers in turn, on the same records.

Single-record messages go to all of them over each number of connections, one after the other,
several rounds long; medians are compared (`ingest_runs` says what a run is). How fast the load is
by itself stands below: it must not be what is measured.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from benchmarks.goals import GOALS
from benchmarks.ingest_runs import (
    SHORT,
    Shape,
    agent_run,
    best,
    enough,
    median,
    peer_run,
    sink_run,
)
from benchmarks.peers import PEERS
from benchmarks.plot import Group
from benchmarks.section import Section
from benchmarks.table import Row, markdown, number

OUR_PROMISE = "the record is checked and synced; one sync is shared by all that had gathered"
LOAD_RECORDS = 1_000_000


@dataclass(frozen=True, slots=True)
class Scale:
    """How much of everything: ``seconds`` of load a run.

    Judged by short runs of ``least`` records, peers' by ``part`` of their messages; with no
    seconds these are all.
    """

    seconds: float
    least: int
    part: float
    rounds: int
    connections: tuple[int, ...]
    shapes: dict[str, tuple[str, Shape, tuple[int, ...]]]


#: Name of the figure, shape, and over how many connections.
SHAPES: dict[str, tuple[str, Shape, tuple[int, ...]]] = {
    "single records, JSON text": ("singles_json", Shape(text=True), (1, 4, 50)),
    "batches of 100, msgpack": ("batches", Shape(batch=100), (1, 4)),
    "batches of 100, JSON text": ("batches_json", Shape(batch=100, text=True), (1, 4)),
    "single records, msgpack, as shipped (commit_interval 1s)": ("", Shape(interval="1s"), (1, 50)),
}
FULL = Scale(2.5, 50_000, 1.0, 3, (1, 4, 50), SHAPES)
TINY = Scale(
    0.0, 2_000, 0.1, 1, (4,),
    {name: (key, shape, (1,)) for name, (key, shape, _) in SHAPES.items() if key},
)  # fmt: skip


def section(folder: Path, tiny: bool) -> Section:
    """The chapter: singles side by side with the peers, other shapes, the load by itself."""
    scale = TINY if tiny else FULL
    found = Singles(folder, scale)
    found.measure()
    shapes, shape_figures = other_shapes(folder, scale)
    return Section(
        "## Ingest: durable and acked, R in records/s, E in records per CPU second of the server"
        "\n\n"
        f'The agent has its defaults, but `commit_interval = "{SHORT}"` where not said otherwise: '
        "its groups close early when they are full, so the interval is only what the last one "
        "waits. Medians of "
        f"interleaved rounds ({scale.rounds}).\n\n"
        f"{found.table()}\n\n{shapes}\n\n{load_alone(folder, scale)}",
        found.figures() | shape_figures,
        found.bars(),
    )


class Singles:
    """Single-record messages: the agent and every peer that is here, in turn."""

    def __init__(self, folder: Path, scale: Scale) -> None:
        self.folder = folder
        self.scale = scale
        self.ours: dict[int, Row] = {}
        self.theirs: dict[str, dict[int, Row]] = {name: {} for name in PEERS}

    def measure(self) -> None:
        """All rounds of all numbers of connections."""
        scale = self.scale
        present = [name for name, peer in PEERS.items() if not peer.missing()]
        for connections in scale.connections:
            ours = agent_runs(self.folder / "agent", scale, Shape(), connections)
            theirs = {
                name: peer_runs(self.folder / name, scale, name, connections) for name in present
            }
            rows: dict[str, list[Row]] = {name: [] for name in ["", *present]}
            for _ in range(scale.rounds):
                rows[""].append(ours())
                for name, run in theirs.items():
                    rows[name].append(run())
            self.ours[connections] = median(rows.pop(""))
            for name, found in rows.items():
                self.theirs[name][connections] = median(found)

    def slowest(self) -> float:
        """The agent's lowest rate over the numbers of connections."""
        return min(row.rate for row in self.ours.values())

    def table(self) -> str:
        """A row for the agent and one for each peer, also for those that are not here."""
        counts = self.scale.connections
        rows = [
            (
                "**edge_agent**", *(number(self.ours[count].rate) for count in counts),
                number(best(self.ours).efficiency), "", "", OUR_PROMISE,
            )
        ]  # fmt: skip
        for name, peer in PEERS.items():
            if missing := peer.missing():
                blank = [""] * (len(counts) + 3)
                rows.append((peer.title, *blank, f"not installed ({missing})"))
                continue
            theirs = self.theirs[name]
            same = [f"{self.ours[count].rate / theirs[count].rate:.1f}" for count in counts]
            rows.append(
                (
                    peer.title, *(number(theirs[count].rate) for count in counts),
                    number(best(theirs).efficiency), " / ".join(same),
                    f"{self.slowest() / best(theirs).rate:.1f}", peer.promise,
                )
            )  # fmt: skip
        head = (
            "single records, msgpack", *(f"R, {count} conn." for count in counts), "E at best",
            "R agent ÷ it, same connections", "agent's slowest ÷ its best",
            "what its acknowledgement promises",
        )  # fmt: skip
        return markdown(head, rows)

    def figures(self) -> dict[str, float]:
        """For the table of goals."""
        found = {f"singles_{count}": row.rate for count, row in self.ours.items()}
        for name, rows in self.theirs.items():
            if rows and f"vs_{name}" in GOALS:
                found[f"vs_{name}"] = self.slowest() / best(rows).rate
        return found

    def bars(self) -> tuple[Group, ...]:
        """For the plot, the fastest first."""
        groups = [_group("edge_agent", self.ours, "ours")]
        for name, rows in self.theirs.items():
            if rows:
                kind = "same" if PEERS[name].synced else "weaker"
                groups.append(_group(PEERS[name].title, rows, kind))
        return tuple(sorted(groups, key=lambda group: -max(rate for _, rate in group.bars)))


def _group(title: str, rows: dict[int, Row], kind: str) -> Group:
    return Group(
        title,
        tuple(
            (f"{count} connection{'s' if count > 1 else ''}", row.rate)
            for count, row in rows.items()
        ),
        kind,
    )


def agent_runs(folder: Path, scale: Scale, shape: Shape, connections: int) -> Callable[[], Row]:
    """What runs the agent for as long as the scale wants."""
    run = partial(agent_run, folder, connections=connections)
    # A short run with a long interval would say no more than the interval.
    short = partial(run, shape=replace(shape, interval=SHORT))
    least = scale.least * (10 if shape.batch > 1 else 1)
    return partial(run, shape=shape, records=enough(short, least, scale.seconds))


def peer_runs(folder: Path, scale: Scale, name: str, connections: int) -> Callable[[], Row]:
    """What runs a peer for as long."""
    run = partial(peer_run, folder, name, PEERS[name], connections=connections)
    least = max(connections, int(PEERS[name].messages * scale.part))
    return partial(run, records=enough(run, least, scale.seconds))


def other_shapes(folder: Path, scale: Scale) -> tuple[str, dict[str, float]]:
    """The agent alone with other messages, and with its default interval."""
    rows = []
    figures: dict[str, float] = {}
    for title, (name, shape, counts) in scale.shapes.items():
        for connections in counts:
            run = agent_runs(folder / "agent", scale, shape, connections)
            row = median([run() for _ in range(scale.rounds)])
            if name:
                figures[name] = min(row.rate, figures.get(name, row.rate))
            rows.append(
                (
                    title, connections, number(row.rate), number(row.efficiency),
                    f"{row.facts['peak_rss_mb']:.0f} MB",
                )
            )  # fmt: skip
    return markdown(("other messages", "connections", "R", "E", "VmHWM"), rows), figures


def load_alone(folder: Path, scale: Scale) -> str:
    """What the load can do, which must be far more than any server shows."""
    rows = []
    for connections in scale.connections:
        row = sink_run(
            folder / "sink", records=max(scale.least, LOAD_RECORDS if scale.seconds else 0),
            connections=connections,
        )  # fmt: skip
        cost = row.cpu_seconds / row.records * 1e6
        rows.append((connections, number(row.rate), f"{cost:.3f}"))
    return markdown(
        ("the load by itself, into a sink: connections", "messages/s", "its CPU us/message"), rows
    )
