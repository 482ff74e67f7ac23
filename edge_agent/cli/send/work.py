"""The work of ``edge-agent send``: rows in, acks awaited, trouble told."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

import trio

from edge_agent.cli.common import Failure
from edge_agent.cli.progress import ProgressBar
from edge_agent.cli.send.options import EX_DATAERR, EX_UNAVAILABLE, Diary, failure_of, hint
from edge_agent.cli.send.rows import BoundedLines, take
from edge_agent.cli.send.times import BadRow, Row
from edge_agent.client import Opened, Producer, Trouble

_ROWS_AT_ONCE = 500
#: Records that were refused for one reason are told singly so often, then as a number.
_TOLD_SINGLY = 5


@dataclass(slots=True)
class SendOutcome:
    """What became of the rows.

    Attributes:
        records: good rows, which are the numbers 1 … ``records``.
        acked: numbers up to this are durable, or refused.
        had: how many the agent had before.
        refused: nacks, as ``(number, line, reason)``.
        skipped: bad rows passed over.
        lines: number to line, of what is not acked yet.
    """

    records: int = 0
    acked: int = 0
    had: int = 0
    skipped: int = 0
    refused: list[tuple[int, int, str]] = field(default_factory=list)
    lines: dict[int, int] = field(default_factory=dict)


class Sending:
    """One run of the command.

    Args:
        url, source, token, ca_file: as `Producer`.
        numbered: record n is number n of the source (a file).
        skip_bad: pass bad rows over instead of failing at the first one.
        timeout: give up when nothing was acked for so many seconds.
    """

    def __init__(
        self,
        url: str,
        source: str,
        *,
        token: str | None,
        ca_file: str | None,
        numbered: bool,
        skip_bad: bool,
        timeout: float,
        diary: Diary,
    ) -> None:
        self.outcome = SendOutcome()
        self._skip_bad = skip_bad
        self._timeout = timeout
        self._diary = diary
        self._refused_for: Counter[str] = Counter()
        self._last_word = ""
        self._everything = trio.CancelScope()
        self._acked_at = 0.0
        self._failure: Failure | None = None
        self._opened_before = False
        self._producer = Producer(
            url,
            source=source,
            token=token,
            ca_file=ca_file,
            numbered=numbered,
            on_open=self._opened,
            on_ack=self._acked,
            on_error=self._trouble,
        )

    async def run(
        self, rows: Iterator[Row | BadRow], lines: BoundedLines, bar: ProgressBar
    ) -> None:
        """Send everything, until acked.

        Raises:
            Failure: a bad row, a refusal, or nothing acked for too long; says what to do.
        """
        with self._everything:
            async with self._producer as producer, trio.open_nursery() as nursery:
                nursery.start_soon(self._watch, lines, bar)
                await self._feed(rows, lines)
                await producer.flush()
                nursery.cancel_scope.cancel()
        outcome = self.outcome
        if self._failure is None and outcome.had > outcome.records:
            self._failure = Failure(
                f"the agent has {outcome.had} records of this file, which holds {outcome.records}: "
                "it is another file now, give it a name of its own with --source",
                EX_DATAERR,
            )
        if self._failure is None and outcome.refused:
            reasons = ", ".join(f"{count:,} {code}" for code, count in self._refused_for.items())
            self._failure = Failure(f"records were refused: {reasons}", EX_DATAERR)
        if self._failure is not None:
            raise self._failure

    async def _feed(self, rows: Iterator[Row | BadRow], lines: BoundedLines) -> None:
        while True:
            # Reading stdin cannot be interrupted, so its thread is left behind where we leave.
            taken = await trio.to_thread.run_sync(
                take, rows, lines, _ROWS_AT_ONCE, abandon_on_cancel=True
            )
            good = self._good(taken)
            if good:
                await self._producer.send([row.fields for row in good])
            if not taken or self._failure is not None:
                return

    def _good(self, taken: list[Row | BadRow]) -> list[Row]:
        good: list[Row] = []
        for row in taken:
            if isinstance(row, Row):
                self.outcome.records += 1
                self.outcome.lines[self.outcome.records] = row.line
                good.append(row)
            elif self._skip_bad:
                self.outcome.skipped += 1
                self._diary.say(f"line {row.line}: {row.reason}; skipped")
            else:
                # What stands before it is sent all the same.
                self._failure = Failure(f"line {row.line}: {row.reason}", EX_DATAERR)
                break
        return good

    def _opened(self, opened: Opened) -> None:
        if not self._opened_before:
            self._opened_before = True
            self.outcome.had = opened.next - 1
        self._diary.opened()

    def _acked(self, number: int) -> None:
        outcome = self.outcome
        for done in range(outcome.acked + 1, number + 1):
            outcome.lines.pop(done, None)
        outcome.acked = number
        self._acked_at = trio.current_time()

    def _trouble(self, trouble: Trouble) -> None:
        if trouble.kind == "nack":
            line = self.outcome.lines.get(trouble.number, 0)
            reason = f"{trouble.code}: {trouble.message}"
            self.outcome.refused.append((trouble.number, line, reason))
            self._refused_for[trouble.code] += 1
            if self._refused_for[trouble.code] <= _TOLD_SINGLY:
                self._diary.say(f"line {line}: refused, {reason}")
            return
        self._last_word = f"{trouble.message}{hint(trouble)}"
        if (failure := failure_of(trouble)) is not None:
            self._failure = failure
            self._everything.cancel()
        else:
            self._diary.trouble(trouble)

    async def _watch(self, lines: BoundedLines, bar: ProgressBar) -> None:
        self._acked_at = trio.current_time()
        while True:
            bar.show(lines.read_bytes, f"{self.outcome.acked:,} acked")
            now = trio.current_time()
            if not self._producer.unacked:
                # Waiting for input is no reason to give up.
                self._acked_at = now
            elif now - self._acked_at > self._timeout:
                why = self._last_word or "the agent acked nothing"
                message = f"gave up after {self._timeout:g} s: {why}"
                self._failure = Failure(message, EX_UNAVAILABLE)
                self._everything.cancel()
            await trio.sleep(0.2)
