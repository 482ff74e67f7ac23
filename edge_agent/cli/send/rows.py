"""JSON lines and CSV in, numbered rows out, one at a time and in bounded memory.

A row is good (`Row`, fields ready to send) or bad (`BadRow`, with line and reason); bad rows are
values and not exceptions, because reading goes on behind them.

CSV: the first line names the columns; the delimiter (``,`` ``;`` tab or ``|``) is the one that
occurs most often in it. A cell that reads as a JSON number is one (``007`` and ``1_000`` stay
text), ``true`` and ``false`` are booleans, an empty cell is left out.
"""

from __future__ import annotations

import csv
import re
from collections import deque
from collections.abc import Iterator
from typing import Any, BinaryIO, Literal

import msgspec

from edge_agent.cli.send.times import BadRow, Row, TimedRow, TimeReader, in_order
from edge_agent.errors import ConfigError
from edge_agent.wire import nulls_for_nan

FileFormat = Literal["jsonl", "csv"]

#: A longer line is a bad row; no sensor's record comes near it.
LINE_BYTES_MAX = 1024 * 1024

_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?")
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_SUFFIXES: dict[str, FileFormat] = {
    ".csv": "csv",
    ".tsv": "csv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "jsonl",
}
_decode_json = msgspec.json.Decoder().decode
_encode_msgpack = msgspec.msgpack.Encoder().encode


class BoundedLines:
    """The lines of a binary file as text, their length bounded.

    Text that is not UTF-8 comes through with lone surrogates, and of an overlong line only the
    beginning with one at its end, so that whoever uses the line notices.

    Attributes:
        read_bytes: bytes read so far, for a progress bar.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._complete: deque[bytes] = deque()
        self._rest = b""
        self._overlong = False
        self._at_end = False
        self.read_bytes = 0

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        if not self._fill():
            raise StopIteration
        return self._complete.popleft().decode("utf-8", "surrogateescape")

    @property
    def pending(self) -> bool:
        """Whether the next line is here already and taking it will not wait for the other side."""
        return bool(self._complete)

    def peek(self) -> str:
        """The next line, not taken; "" at the end."""
        return self._complete[0].decode("utf-8", "surrogateescape") if self._fill() else ""

    def _fill(self) -> bool:
        while not self._complete and not self._at_end:
            # read1 and not readline: what has arrived on a pipe is used without waiting for more.
            chunk: bytes = self._file.read1(65536)  # type: ignore[attr-defined] # every buffered reader has it
            if not self.read_bytes:
                chunk = chunk.removeprefix(_BYTE_ORDER_MARK)
            self.read_bytes += len(chunk)
            self._at_end = not chunk
            *lines, self._rest = (self._rest + chunk).split(b"\n")
            if self._at_end and self._rest:
                lines.append(self._rest)
                self._rest = b""
            for line in lines:
                self._complete.append(line[:80] + b"\xff\n" if self._overlong else line + b"\n")
                self._overlong = False
            if len(self._rest) > LINE_BYTES_MAX:
                self._overlong = True
                self._rest = self._rest[:80]
        return bool(self._complete)


def guess_format(name: str, lines: BoundedLines) -> FileFormat:
    """By suffix, else by the first line: what begins like JSON is JSON lines."""
    for suffix, form in _SUFFIXES.items():
        if name.lower().endswith(suffix):
            return form
    first = lines.peek().lstrip()
    return "jsonl" if first[:1] in ("{", "[", '"') or _NUMBER.fullmatch(first.strip()) else "csv"


def read_rows(lines: BoundedLines, form: FileFormat, times: TimeReader) -> Iterator[Row | BadRow]:
    """Every record of the file, in order.

    Raises:
        ConfigError: the CSV header is no header, or names no ``times.column`` though one was
            asked for by another name than ``time``.
    """
    return in_order(_read_csv(lines, times) if form == "csv" else _read_json(lines, times))


def take(rows: Iterator[Row | BadRow], lines: BoundedLines, most: int) -> list[Row | BadRow]:
    """The next rows: at least one unless at the end, and what is there without waiting."""
    taken: list[Row | BadRow] = []
    for row in rows:
        taken.append(row)
        if len(taken) >= most or not lines.pending:
            break
    return taken


def _read_json(lines: BoundedLines, times: TimeReader) -> Iterator[Row | BadRow | TimedRow]:
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            value = _json_value(line)
        except (ValueError, RecursionError) as error:
            yield BadRow(number, f"not JSON in UTF-8: {error}")
            continue
        if isinstance(value, (int, float, str, bool)):
            value = {"value": value}
        if not isinstance(value, dict):
            yield BadRow(
                number, f"expected one record, a map, found {'null' if value is None else 'a list'}"
            )
            continue
        try:
            _encode_msgpack(value)
        except (ValueError, OverflowError):
            yield BadRow(number, "a whole number has at most 64 bits")
            continue
        yield _with_time(number, value, times)


def _json_value(line: str) -> Any:
    """What a line says; NaN and Infinity, which Python writes into JSON, are null as they are where
    an agent reads them.
    """
    try:
        return _decode_json(line)
    except ValueError:
        with_nulls = "".join(nulls_for_nan(line))
        if with_nulls == line:
            raise
        return _decode_json(with_nulls)


def _read_csv(lines: BoundedLines, times: TimeReader) -> Iterator[Row | BadRow | TimedRow]:
    delimiter = _delimiter(lines.peek())
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    header = [name.strip() for name in next(reader, [])]
    if not header:
        return
    _check_header(header, times)
    while True:
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            yield BadRow(reader.line_num, str(error))
            continue
        if not cells:
            continue
        if len(cells) != len(header):
            reason = f"expected {len(header)} columns, found {len(cells)}"
            yield BadRow(reader.line_num, reason)
        elif not all(map(_is_clean, cells)):
            yield BadRow(reader.line_num, f"not UTF-8 text, or over {LINE_BYTES_MAX} bytes")
        else:
            fields = {
                name: cell if name == times.column else _value(cell)
                for name, cell in zip(header, cells, strict=True)
                if cell
            }
            yield _with_time(reader.line_num, fields, times)


def _with_time(line: int, fields: dict[str, Any], times: TimeReader) -> Row | BadRow | TimedRow:
    value = fields.pop(times.column, None)
    if value is None:
        if times.column == "time":
            return Row(line, fields)
        return BadRow(line, f"column {times.column!r}: no time")
    if isinstance(value, str) and times.form.form == "iso" and _NUMBER.fullmatch(value):
        value = float(value)
    try:
        moments = times.form.moments(value)
    except ValueError as error:
        return BadRow(line, f"column {times.column!r}: {error}")
    reason = (
        f"column {times.column!r}: {value!r:.60} occurs twice in {times.form.zone}, as clocks were "
        "put back there, and the order of the rows does not say which is meant: write its offset, "
        "such as +02:00, behind it"
    )
    return TimedRow(line, fields, moments, reason if len(moments) > 1 else "")


def _check_header(header: list[str], times: TimeReader) -> None:
    if not all(header) or len(set(header)) != len(header) or not all(map(_is_clean, header)):
        raise ConfigError(
            "line 1", "a CSV header of different column names", repr(",".join(header))[:200]
        )
    if times.column != "time" and times.column not in header:
        raise ConfigError("--time-column", f"one of {', '.join(header)}", times.column)


def _delimiter(header: str) -> str:
    return max(",;\t|", key=header.count)


def _is_clean(text: str) -> bool:
    return text.isascii() or not any("\ud800" <= letter <= "\udfff" for letter in text)


def _value(cell: str) -> int | float | bool | str:
    match = _NUMBER.fullmatch(cell)
    if match:
        if match[1] is None and match[2] is None:
            whole = int(cell)
            # JSON and msgpack end at 64 bits; a longer number is an identifier, not a quantity.
            return whole if -(2**63) <= whole < 2**64 else cell
        return float(cell)
    if cell in ("true", "false"):
        return cell == "true"
    return cell
