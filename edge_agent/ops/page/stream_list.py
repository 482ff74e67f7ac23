"""The part of the page that lists streams: grouped by their names, with what each said last."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby, pairwise
from operator import itemgetter
from urllib.parse import quote

from edge_agent.ops.page.frame import section, table_head, table_rows, whole_table
from edge_agent.ops.streams import Directory, Seen
from edge_agent.ops.text import ago, amount
from edge_agent.ops.units import named
from edge_agent.output.printable import html_text
from edge_agent.values.record import format_time

#: Streams that the page lists; the API has them all.
ROWS_MAX = 300
#: Where there are more: those that were heard of within this, by name, and then the others. Those
#: heard of last would be others with each look at the page.
_LATELY_NS = 3600 * 10**9
#: Values of one stream that are shown; its own page has the others.
VALUES_MAX = 3
_LABEL_CHARACTERS = 40
_WORD_CHARACTERS = 30
SPARK_POINTS = 40
_SPARK_HEIGHT = 20


@dataclass(frozen=True, slots=True)
class StreamRow:
    """One stream: what is known of it, and its newest numbers and words."""

    name: str
    seen: Seen
    values: Mapping[str, float] = field(default_factory=dict)
    words: Mapping[str, str] = field(default_factory=dict)
    spark: Sequence[float] = ()
    rate: float | None = None


def rows_of(directory: Directory, may_read: Callable[[str], bool]) -> list[StreamRow]:
    """Those that may be read, by name."""
    return [_row_of(directory, name, seen) for name, seen in directory.listing(may_read)]


def _row_of(directory: Directory, name: str, seen: Seen) -> StreamRow:
    last = directory.last_of(name)
    values = {} if last is None else dict(last.told())
    words = {} if last is None else last.words
    # A copy, as the page is made in a thread.
    spark = () if last is None else tuple(last.spark)
    return StreamRow(name, seen, values, words, spark, directory.rate(seen))


def search(wanted: str, rows: Sequence[StreamRow]) -> list[StreamRow]:
    """Those whose names have all words that are ``wanted``."""
    words = wanted.lower().split()
    return [row for row in rows if all(word in row.name.lower() for word in words)]


def stream_list(rows: Sequence[StreamRow], wanted: str, now_ns: int) -> str:
    """The section, as HTML; ``now_ns`` dates the rows."""
    found = search(wanted, rows)
    if len(found) > ROWS_MAX:
        old_ns = now_ns - _LATELY_NS
        found = sorted(found, key=lambda row: (row.seen.stored_ns < old_ns, _in_order(row.name)))
    told = f"{len(found)} of {len(rows)}" if wanted else str(len(rows))
    more = f"; {ROWS_MAX} are listed, the field above finds others" if len(found) > ROWS_MAX else ""
    if not rows:
        inside = (
            "<p>Nothing has been received yet. A sensor connects to"
            " <code>ws://ADDRESS:PORT/ingest/NAME</code>; to try it here:"
            " <code>echo '{\"temp_c\": 21.5}' | edge-agent send --stream greenhouse/1</code></p>"
        )
    elif not found:
        inside = "<p class=soft>No stream has such a name.</p>"
    else:
        inside = _table(found[:ROWS_MAX], now_ns)
    return section("streams", "Streams", inside, soft=told + more)


def groups(names: Sequence[str]) -> dict[str, str]:
    """Of each name the beginning under which it is listed; "" for all where groups would be about
    as many as streams.
    """
    for beginning in (_all_but_the_last, _the_first):
        found = {name: beginning(name) for name in names}
        if 2 * len(set(found.values())) <= len(names):
            return found
    return dict.fromkeys(names, "")


def _all_but_the_last(name: str) -> str:
    return name.rpartition("/")[0]


def _the_first(name: str) -> str:
    return name.partition("/")[0] if "/" in name else ""


def spark_path(values: Sequence[float]) -> str:
    """A line through ``values``, as the path of an SVG, 0 to `SPARK_POINTS` - 1 wide; "" where
    there is no line to draw.
    """
    last = _drawn(values)
    if len(last) < 2:
        return ""
    low, high = min(last), max(last)
    scale = (_SPARK_HEIGHT - 2) / (high - low) if high - low > 0 else 0.0
    begin = SPARK_POINTS - len(last)
    steps = [round(_SPARK_HEIGHT - 1 - (value - low) * scale) for value in last]
    if not scale:
        steps = [_SPARK_HEIGHT // 2] * len(last)
    moves = (f"l1 {after - before}" for before, after in pairwise(steps))
    return f"M{begin} {steps[0]}{''.join(moves)}"


def spark_words(values: Sequence[float]) -> str:
    """The same line for those who do not see it."""
    last = _drawn(values)
    if not last:
        return ""
    told = {"from": last[0], "to": last[-1], "least": min(last), "greatest": max(last)}
    return ", ".join(f"{word} {value:.4g}" for word, value in told.items())


def _spark(values: Sequence[float]) -> str:
    path = spark_path(values)
    if not path:
        return ""
    return (
        f'<svg class="spark" viewBox="0 0 {SPARK_POINTS - 1} {_SPARK_HEIGHT}" role="img"'
        f' preserveAspectRatio="none" aria-label="{spark_words(values)}"><path d="{path}"/></svg>'
    )


def _drawn(values: Sequence[float]) -> list[float]:
    return [value for value in values[-SPARK_POINTS:] if value - value == 0]


#: Title and class of each column; one that is empty in all rows is left out, and `less` on narrow
#: screens.
_COLUMNS = (
    ("Stream", "name"), ("Last values", "values"), ("Lately", ""), ("Heard", "n"),
    ("Per second", "n less"), ("Records seen", "n less"), ("Kept at, UTC", "less last"),
    ("Source", "less"), ("Time", "text less"),
)  # fmt: skip


def _table(rows: Sequence[StreamRow], now_ns: int) -> str:
    group_of = groups([row.name for row in rows])
    # By group first, so that each has one heading.
    rows = sorted(rows, key=lambda row: (_in_order(group_of[row.name]), _in_order(row.name)))
    cells = [_cells(row, group_of[row.name], now_ns) for row in rows]
    shown = [i for i in range(len(_COLUMNS)) if any(line[i] for line in cells)]

    titles, classes = zip(*_COLUMNS, strict=True)
    bodies = ""
    in_groups = zip((group_of[row.name] for row in rows), cells, strict=True)
    for group, lines in groupby(in_groups, key=itemgetter(0)):
        heading = f'<th colspan="{len(shown)}" scope="rowgroup">{html_text(group)}</th>'
        first = f'<tr class="group">{heading}</tr>' if group else ""
        bodies += f"<tbody>{first}{table_rows((line for _, line in lines), classes, shown)}</tbody>"
    return whole_table("streams", table_head(titles, classes, shown), bodies)


def _in_order(name: str) -> list[tuple[int, str]]:
    """What names are sorted by: numbers in them count as such, 2 before 10."""
    pieces = re.findall(r"(\d{1,18})|(\D+|\d+)", name)
    return [(int(number), "") if number else (-1, text) for number, text in pieces]


def _cells(row: StreamRow, group: str, now_ns: int) -> tuple[str, ...]:
    """What stands in each of `_COLUMNS`, as HTML."""
    seen = row.seen
    short = row.name[len(group) + 1 :] if group else row.name
    address, name = html_text(address_of(row.name)), html_text(row.name)
    return (
        f'<a href="{address}" aria-label="{name}, chart">{html_text(short)}</a>',
        _values(row),
        _spark(row.spark),
        ago(now_ns - seen.stored_ns),
        "" if row.rate is None else amount(row.rate),
        amount(seen.records),
        format_time(seen.stored_ns)[:19].replace("T", " "),
        html_text(seen.source or "–"),
        html_text(seen.undated),
    )


def address_of(stream: str) -> str:
    """Where the page of a stream is."""
    return f"/stream/{quote(stream, safe='/$')}"


def _values(row: StreamRow) -> str:
    told = []
    for name, value in [*row.values.items()][:VALUES_MAX]:
        label, unit = named(name)
        shown = f"<b>{value:.6g}</b>{f' {unit}' if unit else ''}"
        told.append(f"<span>{_shortened(label, _LABEL_CHARACTERS)} {shown}</span>")
    # A word has a place, however many numbers there are.
    for name, word in [*row.words.items()][: max(1, VALUES_MAX - len(told))]:
        label, shown = _shortened(name, _LABEL_CHARACTERS), _shortened(word, _WORD_CHARACTERS)
        # What is cut off is told to who points at it, and may be broken into lines.
        is_long = len(word) > _WORD_CHARACTERS
        title = f' class="long" title="{html_text(word)}"' if is_long else ""
        told.append(f"<span{title}>{label} <b>{shown}</b></span>")
    if more := len(row.values) + len(row.words) - len(told):
        told.append(f"<span class=soft>and {more} more</span>")
    return " ".join(told)


def _shortened(text: str, most: int) -> str:
    return html_text(text if len(text) <= most else f"{text[:most]}…")
