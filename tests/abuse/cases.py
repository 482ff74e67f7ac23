"""A `Case` is one misbehaviour: its name, what is sent, the answer, and how that is tried."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.abuse.place import Place

Run = Callable[["Place"], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Case:
    """One misbehaviour. ``is_slow``: it waits for a deadline of the agent's, beside the others."""

    group: str
    name: str
    sent: str
    answer: str
    run: Run
    is_slow: bool = False


class Cases:
    """The cases of one group, in order."""

    def __init__(self, group: str) -> None:
        self.group = group
        self.all: list[Case] = []
        #: Entered before the agent starts, and left after it has ended.
        self.around: Callable[[Place], AbstractAsyncContextManager[None]] | None = None
        #: Done before all of them, and asked after them.
        self.first: Run | None = None
        self.afterwards: Run | None = None

    def add(self, name: str, sent: str, answer: str, run: Run, *, slow: bool = False) -> None:
        """One more."""
        assert name not in {case.name for case in self.all}, name
        self.all.append(Case(self.group, name, sent, answer, run, slow))

    def case(
        self, name: str, sent: str, answer: str, *, slow: bool = False
    ) -> Callable[[Run], Run]:
        """The same, of the function below it."""

        def take(run: Run) -> Run:
            self.add(name, sent, answer, run, slow=slow)
            return run

        return take

    def last(self, run: Run) -> Run:
        """What has to hold once all cases have been tried."""
        self.afterwards = run
        return run
