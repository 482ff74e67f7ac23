"""Rename, drop, redact, convert, calibrate, truncate: steps that change a record's own fields.

Each of these functions makes one out of a rule's value. A record that has none of the fields comes
back as it is, the very same object, so that it keeps its bytes.
"""

from __future__ import annotations

import hashlib
import hmac
from bisect import bisect_right
from collections.abc import Callable, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgpack

from edge_agent.config import Calibration, Conversion
from edge_agent.errors import ConfigError
from edge_agent.rules.steps import Act, Fields, Outcome, Spot
from edge_agent.system.files import read_secret_line, why_unreadable
from edge_agent.values.measures import Change, between, scaled

REDACTED = "[redacted]"
#: Of a pseudonym: 128 bits, in hex.
PSEUDONYM_CHARACTERS = 32
KEY_CHARACTERS_MIN = 16
#: The largest round() is asked for; no double has more decimals that mean something.
_DECIMALS_MAX = 300


def renamer(names: Mapping[str, str]) -> Act:
    """Old name to new name."""

    def rename(fields: Fields, spot: Spot) -> Outcome:
        # Where the new name is taken already, the renamed field wins, wherever it stands.
        taken = {names[name] for name in fields if name in names}
        if not taken:
            return fields
        return {
            names.get(name, name): value
            for name, value in fields.items()
            if name in names or name not in taken
        }

    return rename


def dropper(names: frozenset[str]) -> Act:
    """Leaves fields out."""

    def drop(fields: Fields, spot: Spot) -> Outcome:
        if names.isdisjoint(fields):
            return fields
        return {name: value for name, value in fields.items() if name not in names}

    return drop


def redacter(names: frozenset[str]) -> Act:
    """Puts a word in the place of values."""
    return _each({name: (lambda _: REDACTED, None) for name in names}, numbers=False)


def pseudonymiser(names: frozenset[str], key: bytes) -> Act:
    """Puts a keyed hash in the place of values: the same for the same value, in every field."""

    def pseudonym(value: Any) -> str:
        # A text and a number that look alike are two.
        told = value.encode() if isinstance(value, str) else b"\0" + msgpack.packb(value)
        return hmac.digest(key, told, hashlib.sha256).hex()[:PSEUDONYM_CHARACTERS]

    return _each(dict.fromkeys(names, (pseudonym, None)), numbers=False)


def read_key(file: str, key: str) -> bytes:
    """The secret for `pseudonymiser`.

    Raises:
        ConfigError: under the ``key`` of the configuration; says nothing of what was found.
    """
    try:
        secret = read_secret_line(Path(file))
    except OSError as error:
        found = f"{file}: {why_unreadable(error, file)}"
        raise ConfigError(key, "a readable file", found) from None
    except ValueError as error:
        raise ConfigError(key, "a file of one line", f"{file}: {error}") from None
    if len(secret) < KEY_CHARACTERS_MIN:
        raise ConfigError(key, f"{KEY_CHARACTERS_MIN} characters or more", f"fewer in {file}")
    return secret.encode()


def converter(conversions: Mapping[str, str | Conversion]) -> Act:
    """Gives numbers in other units."""
    each: dict[str, tuple[Change, str | None]] = {}
    for name, how in conversions.items():
        how = Conversion(units=how) if isinstance(how, str) else how
        change = between(how.units) if how.units is not None else scaled(how.scale, how.offset)
        each[name] = (change, how.into)
    return _each(each)


def calibrator(calibrations: Mapping[str, Calibration]) -> Act:
    """Gives what an instrument should have shown."""
    return _each(
        {
            name: (_line(how.table) if how.table else _polynomial(how.polynomial), how.into)
            for name, how in calibrations.items()
        }
    )


def _line(table: tuple[tuple[float, float], ...]) -> Change:
    """Straight from point to point; below the first and above the last it goes straight on."""
    shown = [point[0] for point in table]
    # Of each stretch: where it begins, what is right there, and how steep it is.
    parts = [(x, y, (after - y) / (till - x)) for (x, y), (till, after) in pairwise(table)]
    last = len(parts) - 1

    def calibrate(value: float) -> float:
        x, y, slope = parts[min(max(bisect_right(shown, value) - 1, 0), last)]
        return y + (value - x) * slope

    return calibrate


def _polynomial(coefficients: tuple[float, ...]) -> Change:
    """The first coefficient stands alone, the second is that of x, and so on."""
    descending = coefficients[::-1]

    def calibrate(value: float) -> float:
        result = 0.0
        for coefficient in descending:
            result = result * value + coefficient
        return result

    return calibrate


def truncater(lengths: Mapping[str, int]) -> Act:
    """Cuts texts to so many characters and rounds numbers to so many decimals, also those within
    a map or a list; whole numbers stay.
    """
    return _each({name: (_cutter(length), None) for name, length in lengths.items()}, numbers=False)


def _cutter(length: int) -> Callable[[Any], Any]:
    decimals = min(length, _DECIMALS_MAX)

    def cut(value: Any) -> Any:
        if isinstance(value, float):
            return round(value, decimals)
        if isinstance(value, str):
            return value[:length]
        if isinstance(value, dict):
            return {name: cut(each) for name, each in value.items()}
        if isinstance(value, list):
            return [cut(each) for each in value]
        return value

    return cut


def _each(
    changes: Mapping[str, tuple[Callable[[Any], Any], str | None]], *, numbers: bool = True
) -> Act:
    """A change, and the field that it is written into, by field; ``numbers``: of those alone."""
    todo = [(name, change, into or name) for name, (change, into) in changes.items()]

    def act(fields: Fields, spot: Spot) -> Outcome:
        changed = fields
        for name, change, into in todo:
            if name in fields:
                value = fields[name]
                # A bool is an int as well, and none that could be converted.
                if numbers and type(value) not in (int, float):
                    continue
                if changed is fields:
                    changed = dict(fields)
                changed[into] = change(value)
        return changed

    return act
