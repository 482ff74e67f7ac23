"""HTTP POST beside WebSocket, and TLS beside none, on the same records and in the same run.

Every connection of POST has one request in flight, as whoever posts waits for the answer. With the
interval of 20 ms it posts less than 50 times a second, so that how many connections there are
decides what can be reached; the rows say how many there were. The load is Python on the same
cores: what the agent itself takes for a message is its CPU time, in the last column.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from benchmarks.bench_ingest import FULL, TINY, Scale, agent_runs
from benchmarks.ingest_runs import CONNECTIONS, Shape, median
from benchmarks.section import Section
from benchmarks.table import Row, markdown, number

#: As many as fill the agent with single records, by a ``listen.connections`` to match.
MANY = 400
#: What the tiny mode has time for.
TRIED = ("post_singles", "post_msgpack", "plain", "tls")
#: What it is, its shape, and over how many connections.
Way = tuple[str, Shape, int]
POST: dict[str, Way] = {
    "ws_singles": ("WebSocket, single records, JSON text", Shape(text=True), 50),
    "post_few": ("POST, single records, JSON text", Shape(text=True, post=True), 50),
    "post_most": ("POST, single records, JSON text", Shape(text=True, post=True), CONNECTIONS),
    "post_singles": ("POST, single records, JSON text", Shape(text=True, post=True), MANY),
    "ws_batches": ("WebSocket, batches of 100, msgpack", Shape(batch=100), 4),
    "post_msgpack": ("POST, batches of 100, msgpack", Shape(batch=100, post=True), CONNECTIONS),
    "post_json": ("POST, batches of 100, JSON", Shape(100, text=True, post=True), CONNECTIONS),
}  # fmt: skip
TLS: dict[str, Way] = {
    "plain": ("batches of 100, msgpack", Shape(batch=100), 4),
    "tls": ("the same by TLS", Shape(batch=100, tls=True), 4),
    "singles": ("single records, msgpack", Shape(), 4),
    "tls_singles": ("the same by TLS", Shape(tls=True), 4),
    "post": ("POST, batches of 100, msgpack", Shape(batch=100, post=True), 50),
    "tls_post": ("the same by TLS", Shape(batch=100, post=True, tls=True), 50),
}


def section(folder: Path, tiny: bool) -> Section:
    """The chapter on POST."""
    rows = measured(folder, POST, tiny)
    return Section(
        "## HTTP POST: durable and answered, beside WebSocket\n\n" + table(POST, rows, tiny),
        {
            "post_singles": rows["post_singles"].rate,
            "post_batches": min(
                rows[name].rate for name in ("post_msgpack", "post_json") if name in rows
            ),
        },
    )


def tls_section(folder: Path, tiny: bool) -> Section:
    """The chapter on TLS. The load encrypts too, on the same two cores."""
    rows = measured(folder, TLS, tiny)
    return Section(
        "## TLS: the same with and without\n\n" + table(TLS, rows, tiny),
        {"tls_batches": rows["tls"].rate / rows["plain"].rate},
    )


def measured(folder: Path, ways: dict[str, Way], tiny: bool) -> dict[str, Row]:
    """Interleaved rounds of all ways; the median of each."""
    scale: Scale = TINY if tiny else FULL
    if tiny:
        ways = {name: ways[name] for name in TRIED if name in ways}
        scale = replace(scale, least=scale.least // 10)
    runs = {
        name: agent_runs(folder / "agent", scale, shape, connections(count, tiny))
        for name, (_, shape, count) in ways.items()
    }
    rows: dict[str, list[Row]] = {name: [] for name in ways}
    for _ in range(scale.rounds):
        for name, run in runs.items():
            rows[name].append(run())
    return {name: median(found) for name, found in rows.items()}


def connections(count: int, tiny: bool) -> int:
    """So many, or few."""
    return min(count, 4) if tiny else count


def table(ways: dict[str, Way], rows: dict[str, Row], tiny: bool) -> str:
    """One line for each way."""
    lines = [
        (
            what, connections(count, tiny), number(rows[name].rate),
            number(rows[name].efficiency),
            f"{rows[name].cpu_seconds / rows[name].records * shape.batch * 1e6:,.0f}",
        )
        for name, (what, shape, count) in ways.items()
        if name in rows
    ]  # fmt: skip
    head = ("what", "connections", "R records/s", "E", "agent's CPU, us/message")
    return markdown(head, lines)
