"""A shape remembers the keys that a sender repeats, so that its next records decode faster.

A shape is a class made for one set of keys. Decoding into it is twice as fast as into dicts and
proves the same: a map, its keys text, its values what a usual record may hold, its text UTF-8.
It allows any of its keys to be missing, but for ``time`` and ``stream``, which all records have
or none. What does not fit it goes the way without a shape, with the same result.

Learning (`Learner`, one a session) looks at the first and last record of lists, so it costs
nothing by the record; it is a guess, and the decoder checks it against every record. Only bulk
teaches: a sensor that sends one record a second gains nothing from a shape. Where another sender
has taught it already, one list is enough. What was guessed wrong, or is gone, has to be seen twice
as often before it is believed again.

Making a class takes half a millisecond and some kilobytes, so there are at most `SHAPES_MAX`, in
a cache that all sessions share. One that leaves the cache lets go of its class, whoever still
holds the shape. All of this is for one thread.

A JSON record that was read by its shape is stored with its keys in the shape's order.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from operator import attrgetter
from typing import Any

import msgspec
from msgspec import UNSET, UnsetType

from edge_agent.wire.encodings import Usual, UsualValue

SHAPES_MAX = 64
KEYS_MAX = 32
KEY_CHARACTERS_MAX = 64
#: Records of the same keys before a class is made, and the most that are ever asked for.
LEARNT_AFTER = 1000
LEARNT_AFTER_MAX = 2**20
#: Lists of fewer records are decoded so quickly anyway that they teach nothing.
BULK_FROM = 8
#: So many lists in a row that did not fit, and the shape is forgotten.
MISSES_MAX = 16
#: All records of a shape have them, or none, so that they can be read from all at once.
_TAKEN_OUT = ("time", "stream")

Column = Callable[[Any], object]
Decode = Callable[[Any], Any]


class Shape:
    """Decoders into the class of one set of keys.

    Attributes:
        is_gone: it has left its cache, and reads nothing any more.
        is_used: since the cache last looked.
    """

    __slots__ = (
        "__weakref__",
        "_decoders",
        "_stream_of",
        "_time_of",
        "is_gone",
        "is_used",
    )

    def __init__(self, keys: tuple[str, ...]) -> None:
        """Raises ValueError for keys that the fields of a class cannot be called."""
        names = {f"f{index}": key for index, key in enumerate(keys)}
        made = msgspec.defstruct(
            "Shape",
            [
                (name, UsualValue) if key in _TAKEN_OUT else (name, UsualValue | UnsetType, UNSET)
                for name, key in names.items()
            ],
            rename=names,
            kw_only=True,
            forbid_unknown_fields=True,
            gc=False,
        )
        fields = {key: attrgetter(name) for name, key in names.items()}
        self._time_of: Column | None = fields.get("time")
        self._stream_of: Column | None = fields.get("stream")
        # By is_json and is_array.
        self._decoders: dict[tuple[bool, bool], Decode] = {
            (False, False): msgspec.msgpack.Decoder(made).decode,
            (False, True): msgspec.msgpack.Decoder(list[made]).decode,  # type: ignore[valid-type]  # a class all the same
            (True, False): msgspec.json.Decoder(made).decode,
            (True, True): msgspec.json.Decoder(list[made]).decode,  # type: ignore[valid-type]  # likewise
        }
        self.is_gone = False
        self.is_used = True

    def read(self, batch: Sequence[Any], *, is_json: bool, is_array: bool) -> list[Any]:
        """Decode messages of one record each, or arrays: then each gives a list of its own.

        Raises:
            DECODE_ERRORS: also where a record is usual, but not of this shape.
        """
        return list(map(self._decoders[is_json, is_array], batch))

    def times(self, records: list[Any]) -> list[object] | None:
        """Each record's ``time``; None where the keys do not have it."""
        return None if self._time_of is None else list(map(self._time_of, records))

    def streams(self, records: list[Any]) -> list[object] | None:
        """Each record's ``stream``; None where the keys do not have it."""
        return None if self._stream_of is None else list(map(self._stream_of, records))

    def forget(self) -> None:
        """Forget the class."""
        self.is_gone = True
        self._decoders = dict.fromkeys(self._decoders, _refuse)


def _refuse(_data: object) -> object:
    raise msgspec.ValidationError("this shape has left its cache")


class ShapeCache:
    """At most so many shapes; the one that goes is one not used lately."""

    def __init__(self, shapes_max: int) -> None:
        self._shapes_max = shapes_max
        self._shapes: dict[tuple[str, ...], Shape] = {}

    def __len__(self) -> int:
        return len(self._shapes)

    def __contains__(self, keys: tuple[str, ...]) -> bool:
        return keys in self._shapes

    def get(self, keys: tuple[str, ...]) -> Shape | None:
        """The shape of these keys, made now where there is none; None where it cannot be made."""
        shape = self._shapes.get(keys)
        if shape is not None:
            return shape
        try:
            shape = Shape(keys)
        except ValueError:  # Quotes and control characters.
            return None
        while len(self._shapes) >= self._shapes_max:
            self._evict_one()
        self._shapes[keys] = shape
        return shape

    def _evict_one(self) -> None:
        # The oldest, unless it was used since it was last the oldest: then it is as good as new.
        # The second time round none is used any more, so this ends.
        while True:
            keys, shape = next(iter(self._shapes.items()))
            del self._shapes[keys]
            if not shape.is_used:
                shape.forget()
                return
            shape.is_used = False
            self._shapes[keys] = shape


SHAPES = ShapeCache(SHAPES_MAX)


class Learner:
    """What one sender's records have in common. Small, as there is one for every connection."""

    __slots__ = ("_cache", "_doubts", "_keys", "_misses", "_seen", "_shape", "_wanted")

    def __init__(self, cache: ShapeCache = SHAPES, learnt_after: int = LEARNT_AFTER) -> None:
        self._cache = cache
        self._wanted = learnt_after
        self._seen = self._misses = self._doubts = 0
        # Keys seen so far, in order; made with the first bulk.
        self._keys: dict[str, None] | None = None
        self._shape: Shape | None = None

    def shape(self) -> Shape | None:
        """What has been learnt, as far as it still stands."""
        shape = self._shape
        if shape is None:
            return None
        if shape.is_gone:
            self._doubt()
            return None
        shape.is_used = True
        return shape

    def hit(self) -> None:
        """A list fitted."""
        self._misses = 0

    def miss(self) -> None:
        """A list did not fit."""
        self._misses += 1
        if self._misses >= MISSES_MAX:
            self._doubt()

    def look(self, records: list[Usual]) -> None:
        """Learn from a list of usual records that was read without a shape."""
        if self._shape is not None or len(records) < BULK_FROM:
            return
        if self._keys is None:
            self._keys = dict.fromkeys(records[0])
        if not (self._takes(self._keys, records[0]) and self._takes(self._keys, records[-1])):
            self._doubt()
            return
        self._seen += len(records)
        keys = tuple(self._keys)
        if self._seen >= self._wanted or (not self._doubts and keys in self._cache):
            self._shape = self._cache.get(keys)
            if self._shape is None:
                self._doubt()
            self._keys = None

    def _takes(self, keys: dict[str, None], record: Usual) -> bool:
        if not record.keys() <= keys.keys():
            keys.update(dict.fromkeys(record))
            self._seen = 0
        if any((key in keys) != (key in record) for key in _TAKEN_OUT):
            return False
        return len(keys) <= KEYS_MAX and max(map(len, keys), default=0) <= KEY_CHARACTERS_MAX

    def _doubt(self) -> None:
        self._shape = self._keys = None
        self._seen = self._misses = 0
        self._doubts += 1
        self._wanted = min(2 * self._wanted, LEARNT_AFTER_MAX)
