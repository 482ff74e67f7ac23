"""Which records an aggregate stands for, by what it says and by what was sent.

A log that thins keeps one record for each minute, stream and source (`$thin/…`). A sensor of this
proof numbers its records, so an aggregate names the first and the last that it counts (``n_min``,
``n_max``). It is right only if every other figure is that of all records between these two.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isclose
from typing import Any, Final, NamedTuple

import msgspec

from edge_agent.values.aggregates import THINNED_COUNT, THINNED_SOURCE
from tests.crash.sensor import Kind

#: What stands for an aggregate where every other record has its token.
_TOKEN: Final = THINNED_SOURCE
_NUMBERS: Final = ("n", "v")


class Aggregate(NamedTuple):
    """One aggregate, as it was found: of which source, and its fields."""

    source: str
    fields: dict[str, Any]

    @classmethod
    def of(cls, source: str, fields: Mapping[str, Any]) -> Aggregate | None:
        """None where the record of ``source`` is no aggregate."""
        if not source.startswith(THINNED_SOURCE):
            return None
        return cls(source.removeprefix(THINNED_SOURCE), dict(fields))

    @classmethod
    def of_token(cls, token: str) -> Aggregate | None:
        """What `token` was made of; None for a record's own token."""
        if not token.startswith(_TOKEN):
            return None
        found: Aggregate = msgspec.json.decode(token[len(_TOKEN) :], type=cls)
        return found

    @property
    def token(self) -> str:
        """A text, as records have one."""
        return _TOKEN + msgspec.json.encode(self).decode()

    def stands_for(self, kind: Kind, numbers: Sequence[int]) -> list[int] | str:
        """Those of the log's ``numbers`` that it counts, or what it says that is not so."""
        said = self.fields
        low, high = said.get("n_min"), said.get("n_max")
        if not (isinstance(low, int) and isinstance(high, int)):
            return f"an aggregate of {kind.source} does not say of what: {said}"
        counted = [number for number in numbers if low <= number <= high]
        wanted = _figures(kind, counted)
        differing: dict[str, Any] = {
            name: (said.get(name), value)
            for name, value in wanted.items()
            if not _is_same(said.get(name), value)
        }
        pads = {kind.stored(number)["pad"] for number in counted}
        if said.get("pad_last", "") not in {"", *pads}:
            differing["pad_last"] = "that of one of them"
        # Of long texts nothing is kept.
        if differing or said.keys() - wanted.keys() - {"pad_last"}:
            return f"an aggregate of {kind.source}:{low} to {high} says {said}, not {differing}"
        return counted


def _figures(kind: Kind, numbers: Sequence[int]) -> dict[str, Any]:
    """What an aggregate of exactly these records has to say."""
    records = [kind.stored(number) for number in numbers]
    if not records:
        return {THINNED_COUNT: "at least one"}
    found: dict[str, Any] = {THINNED_COUNT: len(records), "token_last": records[-1]["token"]}
    for name in _NUMBERS:
        values = [record[name] for record in records]
        found |= {
            f"{name}_count": len(values),
            f"{name}_min": min(values),
            f"{name}_max": max(values),
            f"{name}_mean": sum(values) / len(values),
            f"{name}_last": values[-1],
        }
    return found


def _is_same(said: object, wanted: object) -> bool:
    if isinstance(said, float) and isinstance(wanted, float):
        return isclose(said, wanted, rel_tol=1e-12)
    return said == wanted
