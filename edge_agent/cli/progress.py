"""A progress bar on stderr where a person watches, nothing elsewhere."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from typing import Any, Self


class ProgressBar(ExitStack):
    """Shows how far a file is, and a count beside it.

    Args:
        what: words in front of the bar.
        total: bytes (or whatever is advanced), None where it is not known.
        shown: None asks whether stderr is a terminal.
    """

    def __init__(self, what: str, total: int | None, *, shown: bool | None = None) -> None:
        super().__init__()
        self._bar: Any = None
        if not (sys.stderr.isatty() if shown is None else shown):
            return
        # rich costs 60 ms to import; whoever pipes this does not pay for it.
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.fields[note]}"),
            TimeElapsedColumn(),
            console=Console(stderr=True),
        )
        self._task = self._bar.add_task(what, total=total, note="")

    def show(self, done: float, note: str) -> None:
        """``done`` of the total, and what to say beside it."""
        if self._bar is not None:
            self._bar.update(self._task, completed=done, note=note)

    def __enter__(self) -> Self:
        if self._bar is not None:
            self.enter_context(self._bar)
        return self
