"""The load in the protocol of a peer, in a process of its own: see `benchmarks.load`."""

from __future__ import annotations

from benchmarks.load import Task, main
from benchmarks.peers import PEERS
from benchmarks.pump import Flow


def open_flows(task: Task) -> list[Flow]:
    """All connections of a task, in the protocol that it names."""
    return [PEERS[task.peer].connect(task, index) for index in range(task.connections)]


if __name__ == "__main__":
    main(open_flows)
