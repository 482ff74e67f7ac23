"""Holds one commit against another: is it slower, and can that be chance?

``python -m benchmarks.compare BASE [--head HEAD] [--what singles] [--rounds 10]`` checks both
commits out into temporary worktrees, removed afterwards, and puts the same load, that of this
checkout, to an agent of each in turn: A B B A and so on, so that neither gains by what the machine
does meanwhile. Printed are the medians, their ratio and a p-value, and where the ratio lies with a
probability of 95 % (`significance`). The exit code is 1 where the commit is significantly worse
than its base by more than the margin, otherwise 0.

``--narrow`` adds pairs until that interval is narrower than the margin, so that "not worse" is a
finding and no lack of runs. ``--rounds-max`` bounds it; the last line says where that was too few.

Both agents run with this Python and its libraries. That each imports the package of its own
worktree, and not one that is installed, is asked of it before anything is measured.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from benchmarks.bench_drain import stored, wait_for
from benchmarks.bench_sensors import agent_config, load
from benchmarks.ports import free_port
from benchmarks.processes import ROOT, Agent, Load, Server
from benchmarks.significance import interval, p_value
from benchmarks.table import markdown, number

ROUNDS = 10
ROUNDS_MAX = 60
#: A difference is believed below this probability of chance ...
SIGNIFICANT = 0.05
#: ... and matters above this part of the base.
MARGIN = 0.03
#: What one run of a load returns: the figure that decides, then others to look at.
Run = Callable[[Path, Path], tuple[float, ...]]


@dataclass(frozen=True, slots=True)
class What:
    """A load, run on an agent of a worktree in an empty folder; and its figures' names."""

    run: Run
    figures: tuple[str, ...]
    more_is_better: bool = True


class TreeAgent(Agent):
    """An agent of the package in the folder ``tree``."""

    def __init__(self, tree: Path, folder: Path, config: str = "", port: int = 0) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "edge-agent.toml").write_text(config)
        self.http_port, port = free_port(), port or free_port()
        Server.__init__(
            self,
            [
                *python_of(tree), "-m", "edge_agent", "run",
                "--config", str(folder / "edge-agent.toml"), "--data", str(folder / "data"),
                "--listen", f"127.0.0.1:{port}", "--http", f"127.0.0.1:{self.http_port}",
            ],
            port, folder,
        )  # fmt: skip


def python_of(tree: Path) -> list[str]:
    """What starts this Python so that ``tree`` comes before everything that is installed."""
    # env becomes what it starts, so the process that is measured is the agent's own.
    return ["env", f"--chdir={tree}", f"PYTHONPATH={tree}", sys.executable]


def check_imports(tree: Path) -> None:
    """Raises SystemExit where an agent started for ``tree`` would be another one's."""
    command = [*python_of(tree), "-c", "import edge_agent; print(edge_agent.__file__)"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    found = done.stdout.strip() or done.stderr.strip().rpartition("\n")[2]
    if done.returncode or not Path(found).resolve().is_relative_to(tree.resolve()):
        raise SystemExit(f"an agent for {tree} would import: {found}")


@contextmanager
def worktree(repository: Path, commit: str, folder: Path) -> Iterator[Path]:
    """A checkout of ``commit`` in ``folder``, which does not exist yet; gone with the block."""
    git(repository, "worktree", "add", "--quiet", "--detach", str(folder), commit)
    try:
        yield folder
    finally:
        git(repository, "worktree", "remove", "--force", str(folder))


def git(repository: Path, *arguments: str) -> str:
    """What git printed. Raises SystemExit with what it said where it failed."""
    done = subprocess.run(
        ["git", *arguments], cwd=repository, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(f"git {' '.join(arguments)}: {done.stderr.strip()}")
    return done.stdout.strip()


def ingest(tree: Path, folder: Path, *, records: int, batch: int) -> tuple[float, ...]:
    """Records a second over four connections, durable; and by second of CPU."""
    agent = TreeAgent(tree, folder)
    try:
        flood = Load(agent.port, records=records, batch=batch, connections=4, source="bench")
        cpu = agent.cpu_seconds()
        found = flood.run()
        cpu = agent.cpu_seconds() - cpu
        held = stored(agent)
    finally:
        agent.stop()
    if held != found["acked"]:
        raise SystemExit(f"{tree}: {found['acked']} records were acked, the log ends at {held}")
    return records / found["seconds"], records / max(cpu, 0.01)


def sensors(
    tree: Path, folder: Path, *, sensors: int, rate: float, seconds: float
) -> tuple[float, ...]:
    """CPU of many slow sensors, in microseconds a message; and their median ack latency."""
    agent = TreeAgent(tree, folder, agent_config(sensors + 50, "20ms"))
    try:
        found = load(agent, sensors=sensors, rate=rate, seconds=seconds, warm_s=seconds / 6)
    finally:
        agent.stop()
    if found["fell_behind"]:
        print(f"the load sent {found['late_p99_ms']:.1f} ms late", file=sys.stderr)
    return found["server_cpu_us"], found["p50_ms"]


def drain(tree: Path, folder: Path, *, records: int) -> tuple[float, ...]:
    """Records a second from an agent to a hub, both of one worktree."""
    hub_port = free_port()
    config = (
        f'[[upstream]]\nname = "hub"\nurl = "ws://127.0.0.1:{hub_port}/forward"\n'
        'backoff_base = "200ms"\nbackoff_max = "400ms"\n'
    )
    servers: list[Server] = []
    try:
        agent = TreeAgent(tree, folder / "agent", config)
        servers.append(agent)
        Load(agent.port, records=records, batch=100, connections=1, source="bench").run()
        hub = TreeAgent(tree, folder / "hub", port=hub_port)
        servers.append(hub)
        first, _ = wait_for(hub, 1)
        _, last = wait_for(hub, records)
    finally:
        for server in servers:
            server.stop()
    return (records / (last - first),)


RATE, CPU = "records/s", "records per CPU second"
WHATS = {
    "singles": What(partial(ingest, records=1_000_000, batch=1), (RATE, CPU)),
    "batches": What(partial(ingest, records=4_000_000, batch=100), (RATE, CPU)),
    "sensors": What(
        partial(sensors, sensors=500, rate=10_000, seconds=6),
        ("CPU us/message", "ack p50 ms"),
        more_is_better=False,
    ),
    "drain": What(partial(drain, records=2_000_000), (RATE,)),
}


def interleaved(rounds: int) -> Iterator[int]:
    """0 for the base and 1 for the head, each ``rounds`` times: 0 1 1 0 0 1 1 0 ..."""
    for turn in range(rounds):
        yield from ((0, 1) if turn % 2 == 0 else (1, 0))


def measure(
    run: Run, trees: Sequence[Path], folder: Path, rounds: int
) -> tuple[list[tuple[float, ...]], list[tuple[float, ...]]]:
    """What each run on the base and on the head returned."""
    found: tuple[list[tuple[float, ...]], list[tuple[float, ...]]] = ([], [])
    for which in interleaved(rounds):
        shutil.rmtree(folder, ignore_errors=True)
        found[which].append(run(trees[which], folder))
        figure = number(found[which][-1][0])
        print(f"{('base', 'head')[which]} {figure}", file=sys.stderr, flush=True)
    return found


def measure_until(
    run: Run, trees: Sequence[Path], folder: Path, rounds: int, *, width: float, rounds_max: int
) -> tuple[list[tuple[float, ...]], list[tuple[float, ...]]]:
    """As `measure`, then more pairs until the interval of the ratio is narrower than ``width``."""
    base, head = measure(run, trees, folder, rounds)
    while len(base) < rounds_max:
        low, _, high = ratio_of(base, head)
        if high - low < width:
            break
        print(f"{len(base)} pairs: {low:.3f} to {high:.3f}", file=sys.stderr, flush=True)
        # Two pairs at a time, so that each side goes first once.
        more = measure(run, trees, folder, 2)
        base += more[0]
        head += more[1]
    return base, head


def ratio_of(
    base: Sequence[tuple[float, ...]], head: Sequence[tuple[float, ...]]
) -> tuple[float, float, float]:
    """Where head / base of the deciding figure lies: low end, middle, high end."""
    return interval([ours[0] / theirs[0] for theirs, ours in zip(base, head, strict=True)])


def is_worse(
    base: Sequence[float], head: Sequence[float], *, more_is_better: bool, margin: float = MARGIN
) -> bool:
    """Whether the head is worse by more than the margin, and that is hardly chance."""
    ratio = statistics.median(head) / statistics.median(base)
    beyond = ratio < 1 - margin if more_is_better else ratio > 1 + margin
    return beyond and p_value(base, head) < SIGNIFICANT


def render(
    what: What, base: Sequence[tuple[float, ...]], head: Sequence[tuple[float, ...]], worse: bool
) -> str:
    """The table, and the verdict in a line."""
    rows = []
    for at, name in enumerate(what.figures):
        ours, theirs = [each[at] for each in head], [each[at] for each in base]
        medians = statistics.median(theirs), statistics.median(ours)
        p = f"{p_value(theirs, ours):.4f}"
        rows.append((name, *map(number, medians), f"{medians[1] / medians[0]:.3f}", p))
    verdict = "worse than its base" if worse else "not significantly worse than its base"
    table = markdown(("median of", "base", "head", "head / base", "p"), rows)
    low, middle, high = ratio_of(base, head)
    place = (
        f"head / base of {len(base)} pairs: {middle:.3f}, with 95 % within {low:.3f} to {high:.3f}"
    )
    return f"{table}\n\n{place}.\nBy {what.figures[0]}, the head is {verdict}."


def main() -> None:
    """Parse, check out, measure, judge."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.compare", description=__doc__)
    parser.add_argument("base", help="commit that is held against")
    parser.add_argument("--head", default="HEAD", help="commit that is judged")
    parser.add_argument("--what", choices=WHATS, default="singles")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="runs of each")
    parser.add_argument("--narrow", action="store_true", help="add pairs until it can be told")
    parser.add_argument("--rounds-max", type=int, default=ROUNDS_MAX, help="with --narrow")
    parser.add_argument("--margin", type=float, default=MARGIN, help="a part of the base")
    parser.add_argument("--folder", type=Path, default=Path("/var/tmp"), help="not a tmpfs")
    options = parser.parse_args()
    what = WHATS[options.what]
    commits = [git(ROOT, "rev-parse", "--verify", f"{each}^{{commit}}")
               for each in (options.base, options.head)]  # fmt: skip
    with (
        tempfile.TemporaryDirectory(prefix="edge-agent-compare-", dir=options.folder) as name,
        worktree(ROOT, commits[0], Path(name) / "base") as base,
        worktree(ROOT, commits[1], Path(name) / "head") as head,
    ):
        for tree in (base, head):
            check_imports(tree)
        found = measure_until(
            what.run, (base, head), Path(name) / "store", options.rounds,
            width=options.margin,
            rounds_max=options.rounds_max if options.narrow else options.rounds,
        )  # fmt: skip
    figures = [[each[0] for each in runs] for runs in found]
    worse = is_worse(*figures, more_is_better=what.more_is_better, margin=options.margin)
    print(render(what, *found, worse))
    low, _, high = ratio_of(*found)
    if options.narrow and high - low >= options.margin:
        print(
            f"{len(found[0])} pairs were not enough: the interval is wider than {options.margin}."
        )
    sys.exit(int(worse))


if __name__ == "__main__":
    main()
