"""The last values of each stream: numbers and words of its newest records, and a sparkline of one.

`edge_agent.ops.streams` brings the newest record of a stream at most once a second, so that a flood
costs no more than a trickle. Memory is bounded as a whole (`BYTES_MAX`): a stream with four numbers
takes some 450 bytes, with a full sparkline 900; a word some 100 more. Where there are more than
fit, those heard of longest ago lose their values, counted in `LastValues.forgotten`, until their
next record.
"""

from __future__ import annotations

import sys
from array import array
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from contextlib import suppress
from types import MappingProxyType

from edge_agent.values.field_paths import numbers_and_words_of
from edge_agent.values.record import NANOSECONDS, Record, TimeTrust

#: Number fields that are kept of a record.
FIELDS_MAX = 32
#: Fields that are text, true or false, and characters of such a text.
WORDS_MAX = 8
WORD_CHARACTERS_MAX = 80
SPARK_POINTS = 60
BYTES_MAX = 2 * 1024 * 1024
#: Sets of names that streams share; beyond, each has its own for a while.
_SHARED_MAX = 1_000
#: About what an object of Python's takes, and what one that holds a number does.
_OBJECT_BYTES = 250
_NUMBER_BYTES = 40
#: What words take beside themselves.
_WORDS_BYTES = 200
_NO_WORDS: Mapping[str, str] = MappingProxyType({})


class LastValue:
    """What one stream said last: the numbers of the newest record that has some, and the words of
    the newest that has some.

    Attributes:
        time_ns, trust: time of the numbers, else of the words, and how far it can be trusted.
        names, values: number fields, by path, in their order.
        words: text by path, "true" and "false" too; cut off at `WORD_CHARACTERS_MAX`.
        spark: the last values of `spark_field`, oldest first, at most one a second and one a
            record.
        spark_field: the first number field of the stream's records.
    """

    __slots__ = (
        "_missing", "_names_bytes", "_second", "_words_bytes", "names", "spark", "spark_field",
        "time_ns", "trust", "values", "words",
    )  # fmt: skip

    def __init__(self) -> None:
        self.time_ns = 0
        self.trust: TimeTrust = "sensor"
        self.names: tuple[str, ...] = ()
        self.values: tuple[float, ...] = ()
        self.words = _NO_WORDS
        self.spark_field = ""
        self.spark = array("d")
        self._names_bytes = self._words_bytes = self._second = 0
        self._missing = 0

    @property
    def bytes(self) -> int:
        """What it takes in memory, about; names that are shared count for each."""
        return _OBJECT_BYTES + self._names_bytes + self._words_bytes + 8 * len(self.spark)

    @property
    def numbers(self) -> dict[str, float]:
        """Field to value, of those whose last value was a number."""
        return dict(zip(self.names, self.values, strict=True))

    def told(self) -> Iterator[tuple[str, float]]:
        """Each field and its value, without those that are larger than any float."""
        for name, value in self.numbers.items():
            with suppress(OverflowError):
                yield name, float(value)

    def note(self, record: Record, names: tuple[str, ...], values: tuple[float, ...]) -> None:
        """A newer record, with its numbers."""
        self.time_ns, self.trust = record.time_ns, record.time_quality
        self._keep(names, values)
        if names and (not self.spark_field or self._missing >= SPARK_POINTS):
            # A field that has not come for a whole sparkline will not come again.
            self.spark_field, self.spark = names[0], array("d")
        if self.spark_field not in names:
            self._missing += 1
            return
        self._missing = 0
        second = record.stored_ns // NANOSECONDS
        try:
            value = float(values[names.index(self.spark_field)])
        except OverflowError:
            return  # An integer that is larger than any float.
        if self.spark and second == self._second:
            self.spark[-1] = value
            return
        self._second = second
        if len(self.spark) >= SPARK_POINTS:
            del self.spark[0]
        self.spark.append(value)

    def note_words(self, words: Mapping[str, str | bool], numbers: Mapping[str, float]) -> None:
        """Words of a newer record, which has these ``numbers``. Where it has none, those before
        stay, but for fields that have become numbers. A number that has become a word is gone: the
        word may be forgotten later, and the number would come back.
        """
        if words and not words.keys().isdisjoint(self.names):
            left = {name: value for name, value in self.numbers.items() if name not in words}
            self._keep(tuple(left), tuple(left.values()))
        kept: Mapping[str, str] = {
            name: _cut(word) if isinstance(word, str) else str(word).lower()
            for name, word in words.items()
        } or {name: word for name, word in self.words.items() if name not in numbers}
        if kept == self.words:
            return
        self.words = kept or _NO_WORDS
        texts = (*kept.keys(), *kept.values())
        self._words_bytes = _WORDS_BYTES + sum(map(sys.getsizeof, texts)) if kept else 0

    def _keep(self, names: tuple[str, ...], values: tuple[float, ...]) -> None:
        if names is not self.names:
            self._names_bytes = sum(map(len, names)) + _NUMBER_BYTES * len(names)
        self.names, self.values = names, values


class LastValues:
    """All of them, bounded in bytes."""

    def __init__(self, bytes_max: int = BYTES_MAX) -> None:
        self._max = bytes_max
        self._values: OrderedDict[str, LastValue] = OrderedDict()
        self._shared: dict[tuple[str, ...], tuple[str, ...]] = {}
        #: About what they take in memory.
        self.bytes = 0
        #: How often a stream lost its values for want of room.
        self.forgotten = 0

    def get(self, stream: str) -> LastValue | None:
        """What is known of a stream."""
        return self._values.get(stream)

    def note(self, record: Record) -> None:
        """Take in the newest record of a stream."""
        value = self._values.get(record.stream)
        if value is None:
            value = self._values[record.stream] = LastValue()
        else:
            self._values.move_to_end(record.stream)
            self.bytes -= value.bytes
        numbers, words = numbers_and_words_of(record.fields, FIELDS_MAX, WORDS_MAX)
        if words or value.words:
            value.note_words(words, numbers)
        names = tuple(numbers)
        # A word in between says nothing new of the numbers: they stay, with their own time.
        if names or not value.names:
            value.note(
                record,
                value.names if names == value.names else self._share(names),
                tuple(numbers.values()),
            )
        self.bytes += value.bytes
        while self.bytes > self._max and len(self._values) > 1:
            self.forget(next(iter(self._values)))
            self.forgotten += 1

    def forget(self, stream: str) -> None:
        """The stream is no longer listed, or its place is needed."""
        gone = self._values.pop(stream, None)
        if gone is not None:
            self.bytes -= gone.bytes

    def _share(self, names: tuple[str, ...]) -> tuple[str, ...]:
        # A hundred sensors of one kind have the same names: once in memory.
        if len(self._shared) >= _SHARED_MAX:
            self._shared.clear()
        return self._shared.setdefault(names, names)


def _cut(word: str) -> str:
    return word if len(word) <= WORD_CHARACTERS_MAX else f"{word[: WORD_CHARACTERS_MAX - 1]}…"
