"""The agent with one promise broken on purpose: ``python -m tests.crash.patched_agent HOW run …``.

These are the negative controls of the strace test. Each breaks the chain from write to ack in one
place, by patching from outside; the product has no switch for any of it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import lmdb
import trio

from edge_agent.commit.gather import Gathering, Ticket
from edge_agent.store.entry import Entry, Stored


def sync_off() -> None:
    """Commits return before anything is on the device."""
    _force(sync=False)


def metasync_off() -> None:
    """The data are synced, the page that makes them reachable is not."""
    _force(metasync=False)


def ack_before_commit() -> None:
    """Entries are answered when they are handed in instead of after the commit."""
    real_offer = Gathering.offer

    def offer(self: Gathering, entry: Entry, patience: float) -> Ticket | None:
        ticket = real_offer(self, entry, patience)
        if ticket is not None and entry.runs and entry.numbering is not None:
            # Soon, not now: whoever offers has yet to say who watches.
            soon = trio.lowlevel.current_trio_token().run_sync_soon
            soon(ticket.settle, Stored({}, entry.numbering.next, 0))
        return ticket

    Gathering.offer = offer  # type: ignore[method-assign]  # breaking it is the point


def _force(**flags: bool) -> None:
    real = lmdb.open

    def patched(*arguments: Any, **options: Any) -> lmdb.Environment:
        return real(*arguments, **{**options, **flags})

    lmdb.open = patched  # type: ignore[assignment]  # a class there, a function that makes one here


CONTROLS: dict[str, Callable[[], None]] = {
    "none": lambda: None,
    "sync-off": sync_off,
    "metasync-off": metasync_off,
    "ack-before-commit": ack_before_commit,
}


if __name__ == "__main__":
    CONTROLS[sys.argv.pop(1)]()
    from edge_agent.cli import main

    main()
