"""SenML in JSON (RFC 8428): records whose names, times and values begin with base values.

A pack is an array, and so it comes as a batch of records, one after the other. A base value
(``bn``, ``bt``, ``bu``, ``bv``, ``bs``) holds from its record on until another one takes its place,
or a record with ``bn`` or ``bver`` begins a pack; they are kept for each stream and source, in
memory. A pack whose first record has neither goes on with those of the pack before it.

The name is ``bn`` + ``n``. What stands before its last ``/`` or ``:`` names the stream, below the
message's own, what stands behind it the field: ``urn:dev:ow:10e2:temp`` becomes the field ``temp``
of ``…/urn-dev-ow-10e2``. Beside it are ``unit`` and ``sum`` where told. A time of 2^28 seconds and
more is since 1970; below, it is relative to now.
"""

from __future__ import annotations

from base64 import b64decode
from typing import Any

from edge_agent.rules.memory import StreamMemory
from edge_agent.rules.profiles.words import part_of_stream
from edge_agent.rules.steps import Fields, Outcome, Spot, Unfit

CODE = "bad_senml"
#: A pack of a later one must not be used (RFC 8428, 4.4).
VERSION = 10
#: A smaller number of seconds is relative to now.
RELATIVE_BELOW_S = 2**28
_VALUES = ("v", "vs", "vb", "vd", "s")


class Senml:
    """The profile; it remembers base values."""

    def __init__(self) -> None:
        self._bases: StreamMemory[dict[str, dict[str, Any]]] = StreamMemory(dict)

    def act(self, fields: Fields, spot: Spot) -> Outcome:
        """One SenML record, resolved; what is none stays as it is.

        Raises:
            Unfit: it has no name or not one value, or asks for what is not understood.
        """
        own = {name: fields[name] for name in fields if name in _KNOWN}
        if not own:
            return fields
        unknown = next((name for name in fields if name.endswith("_") and name not in own), None)
        if unknown is not None:
            raise Unfit(CODE, f"{unknown:.60}: what ends with '_' has to be understood, and is not")
        by_source = {spot.source: {}} if spot.again else self._bases.of(spot)
        if len(by_source) > _SOURCES_MAX:
            by_source.clear()
        before = {} if "bn" in own or "bver" in own else by_source.get(spot.source, {})
        told = {name: _checked(name, own[name]) for name in own if name in _BASES}
        base = {**before, **told}
        by_source[spot.source] = base
        if base.get("bver", VERSION) > VERSION:
            raise Unfit(CODE, f"bver: versions up to {VERSION} are known, got {base['bver']}")
        values = [name for name in _VALUES if name in own and name != "s"]
        if len(values) > 1:
            raise Unfit(CODE, f"expected one value, got {' and '.join(values)}")
        if not values and "s" not in own and not ("n" in own and "bv" in base):
            if "n" in own:
                raise Unfit(CODE, f"{own['n']!r:.60}: expected a value ({', '.join(_VALUES)})")
            # It only says what those behind it begin with.
            return None
        return [_resolved(own, base, spot.stream)]


_SOURCES_MAX = 8
_CHARACTERS_MAX = 200
_BASES = ("bn", "bt", "bu", "bv", "bs", "bver")
_KINDS = (("vs", str, "text"), ("vb", bool, "true or false"), ("vd", str, "text"))
_KNOWN = frozenset({*_BASES, *_VALUES, "n", "u", "t", "ut"})


def _resolved(own: Fields, base: dict[str, Any], stream: str) -> tuple[str, Fields]:
    name = f"{base.get('bn', '')}{own.get('n', '')}"
    cut = max(name.rfind("/"), name.rfind(":")) + 1
    below, field = part_of_stream(name[:cut]), name[cut:]
    if not field:
        # The whole name is the base's: then the field is what it is called by there.
        below, field = "", part_of_stream(name)
    if not field or field in ("time", "stream"):
        raise Unfit(CODE, f"n: expected a name, got {name!r:.60}")
    told: Fields = {}
    if any(key in own for key in _VALUES[:4]) or "bv" in base:
        told[field] = _value(own, base)
    if "s" in own:
        added = _number("s", own["s"])
        told[f"{field}_sum" if told else field] = _number("bs", base.get("bs", 0)) + added
    unit = own.get("u", base.get("bu"))
    if unit is not None:
        told["unit"] = unit
    if "t" in own or "bt" in base:
        time = _number("bt", base.get("bt", 0)) + _number("t", own.get("t", 0))
        # Now is the arrival's, and what is ahead of it is not known to be wrong.
        told["time"] = time if time >= RELATIVE_BELOW_S else min(time, 0)
    return (f"{stream}/{below}" if below else stream), told


def _checked(name: str, value: Any) -> Any:
    """A base value that may be remembered."""
    if name not in ("bn", "bu"):
        return _number(name, value)
    if isinstance(value, str) and len(value) <= _CHARACTERS_MAX:
        return value
    raise Unfit(CODE, f"{name}: expected text of at most {_CHARACTERS_MAX} characters")


def _value(own: Fields, base: dict[str, Any]) -> Any:
    for key, kind, expected in _KINDS:
        if key in own and not isinstance(own[key], kind):
            raise Unfit(CODE, f"{key}: expected {expected}, got {_shown(own[key])}")
    for key in ("vs", "vb"):
        if key in own:
            return own[key]
    if "vd" not in own:
        return _number("bv", base.get("bv", 0)) + _number("v", own.get("v", 0))
    data = own["vd"].rstrip("=")
    try:
        return b64decode(data + "=" * (-len(data) % 4), altchars="-_", validate=True)
    except ValueError as error:
        raise Unfit(CODE, f"vd: expected base64 with - and _: {error}") from None


def _number(name: str, value: object) -> float:
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return value
    raise Unfit(CODE, f"{name}: expected a number, got {_shown(value)}")


def _shown(value: object) -> str:
    return "null" if value is None else f"{value!r:.60}"
