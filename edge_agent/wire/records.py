"""One record at a time: is it usable, and if not, why. The careful half of reading messages.

`messages` first tries whole lists at once and comes here only where something is unusual: nested
or binary values, timestamps, a fault. So this may take microseconds per record, and it holds one
decoded record at a time: a message cannot make us build more objects than one record allows.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import msgpack
import msgspec

from edge_agent.errors import ProtocolError
from edge_agent.values.record import datetime_to_ns, resolve_time
from edge_agent.values.stream_names import stream_problem
from edge_agent.values.value_count import too_many_values
from edge_agent.wire.encodings import (
    DECODE_ERRORS,
    LEAF_TYPES,
    MAP_HEADS,
    MSGPACK,
    Encoding,
    shown,
    to_msgpack,
)
from edge_agent.wire.reading_types import NEAR_NS, Arrival, TimeKey, WireLimits

#: msgpack of ``{"value": …}`` up to the value: how a bare number becomes a record.
VALUE_HEAD = b"\x81\xa5value"

#: Of larger records what nests is only looked through: as objects its bytes take 64 times as much.
_LARGE_BYTES = 16 * 1024
#: Of a ``time``, which may be a map; a longer one is none.
_TIME_BYTES = 256

_SCALARS = (str, int, float)  # bool is an int
_TOO_DEEP = ("too_deep", "maps and arrays are nested too deep")


@dataclass(frozen=True, slots=True)
class Good:
    """A usable record: its stream, its msgpack map, its resolved time."""

    stream: str
    body: bytes
    time_ns: int


@dataclass(frozen=True, slots=True)
class Fault:
    """Why a record is not usable, in a word and a sentence."""

    code: str
    message: str


class _Nested:
    """Stands for an array or a map that has been looked through; it nests so deep."""

    __slots__ = ("levels",)

    def __init__(self, levels: int) -> None:
        self.levels = levels

    def __repr__(self) -> str:
        return "an array or a map"


class _Unusable(Exception):
    """Why a record is not usable, found while it is decoded."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.fault = Fault(code, message)


class _Time(msgspec.Struct):
    """All that is wanted of a record once it is known to be sound."""

    time: msgspec.Raw = msgspec.Raw()


_time_in = msgspec.msgpack.Decoder(_Time).decode


def judge(raw: bytes, encoding: Encoding, arrival: Arrival, limits: WireLimits) -> Good | Fault:
    """Judge one record whose outer form is known to be sound: where it ends has been seen by
    skipping over it, so that whatever is wrong within it is its own fault and no neighbour's.
    """
    if len(raw) > limits.record_bytes:
        return Fault("too_big", f"a record has at most {limits.record_bytes} bytes, got {len(raw)}")
    most = limits.record_values
    if len(raw) > most and encoding.has_more_values(raw, most):
        return Fault("too_many_values", too_many_values(most))
    try:
        if encoding is MSGPACK and len(raw) > _LARGE_BYTES and arrival.time_key is None:
            value: object = _Pruner(limits.record_depth).read(raw)
        else:
            value = encoding.any(raw)
    except _Unusable as error:
        return error.fault
    except DECODE_ERRORS as error:
        return _fault_of(error)
    fields, fault = _as_map(value, limits.record_depth)
    if fault is not None:
        return fault
    return _place(fields, raw, value is not fields, encoding.is_json, arrival)


def fault_of_record(body: bytes, arrival: Arrival, limits: WireLimits) -> tuple[str, str] | None:
    """Code and reason why the msgpack map of a record, which one of ours has made, is not usable as
    one that was sent; None where it is.
    """
    found = judge(body, MSGPACK, arrival, limits)
    return (found.code, found.message) if isinstance(found, Fault) else None


def stream_fault(name: object, arrival: Arrival) -> Fault | None:
    """Why a record may not name this stream; None where it may."""
    if name is None or name == arrival.stream:
        return None
    if not isinstance(name, str):
        return Fault("bad_stream", f"stream: expected text, got {_kind(name)}")
    problem = stream_problem(name)
    if problem is not None:
        return Fault("bad_stream", f"stream: {problem}")
    if arrival.may_write is not None and not arrival.may_write(name):
        return Fault("forbidden_stream", f"stream: the token does not allow {name!r}")
    return None


def _place(
    fields: dict[str, Any], raw: bytes, is_bare: bool, is_json: bool, arrival: Arrival
) -> Good | Fault:
    name = fields.get("stream")
    fault = stream_fault(name, arrival)
    if fault is not None:
        return fault
    rule = None
    if arrival.time_key is not None:
        rule = arrival.time_key(arrival.stream if name is None else name)
    try:
        given = None if rule is None else fields.get(rule.name)
        # A map says for itself what it means, or is at fault as anywhere (``historic``).
        if rule is not None and given is not None and not isinstance(given, dict):
            fields = _with_time(fields, rule, arrival.wall_ns)
        else:
            rule = None
        time_ns, _ = resolve_time(fields.get("time"), arrival.wall_ns)
    except ProtocolError as error:
        return Fault(error.code, error.message)
    if rule is None and not is_json:
        body = VALUE_HEAD + raw if is_bare else raw
    else:
        try:
            body = to_msgpack(fields)
        except OverflowError:
            return Fault("bad_record", "a whole number has at most 64 bits")
    return Good(arrival.stream if name is None else name, body, time_ns)


def _with_time(fields: dict[str, Any], rule: TimeKey, arrival_ns: int) -> dict[str, Any]:
    """The record with its time under ``time``, as everything after this expects it."""
    value = fields[rule.name]
    try:
        moments = rule.form.moments(value)
    except ValueError as error:
        raise ProtocolError("bad_time", f"{rule.name}: {error}") from None
    if len(moments) > 1:
        moments = tuple(
            moment
            for moment in moments
            if isinstance(moment, datetime) and abs(datetime_to_ns(moment) - arrival_ns) < NEAR_NS
        )
    if len(moments) != 1:
        raise ProtocolError(
            "bad_time",
            f"{rule.name}: {value!r:.60} occurs twice in {rule.form.zone}, and it arrived too long"
            " after to tell which is meant",
        )
    return {
        **{key: each for key, each in fields.items() if key not in (rule.name, "time")},
        "time": moments[0],
    }


def _fault_of(error: Exception) -> Fault:
    # What skipping does not see: text that is not UTF-8, half a surrogate pair, and values that
    # are well-formed but cannot be held.
    if isinstance(error, RecursionError):
        return Fault(*_TOO_DEEP)
    if any(word in str(error) for word in ("truncated", "surrogate")):
        # Nothing is cut off, as it was skipped over whole.
        told = "half a character (one of \\ud800 to \\udfff without its other half)"
        return Fault("bad_record", f"a text has {told}")
    return Fault("bad_record", f"a value cannot be used: {shown(error)}")


def _as_map(value: object, depth: int) -> tuple[dict[str, Any], Fault | None]:
    if isinstance(value, _SCALARS):
        return {"value": value}, None
    if not isinstance(value, dict):
        message = f"a record is a map, a number, text or true/false, got {_kind(value)}"
        return {}, Fault("bad_record", message)
    return value, _nested_fault(value, depth)


class _Pruner:
    """Decodes a record of msgpack; values that nest are looked through, but not kept."""

    def __init__(self, depth: int) -> None:
        self._nested = [_Nested(levels) for levels in range(depth + 1)]
        #: The map that was found last, which is the outermost one in the end.
        self._last: dict[object, object] = {}

    def read(self, raw: bytes) -> object:
        """What it is. Raises `DECODE_ERRORS` and `_Unusable`."""
        try:
            value = msgpack.unpackb(
                raw,
                list_hook=self._stand_for,
                object_hook=self._stand_for_map,
                ext_hook=_refuse_extension,
                strict_map_key=False,
                timestamp=3,
            )
        except msgpack.StackError:
            raise _Unusable(*_TOO_DEEP) from None
        if not isinstance(value, _Nested):
            return value
        if raw[:1] not in MAP_HEADS:
            return []
        if isinstance(self._last.get("time"), _Nested):
            given = bytes(_time_in(raw).time)
            if len(given) <= _TIME_BYTES:
                self._last["time"] = MSGPACK.any(given)
        return self._last

    def _stand_for(self, values: Collection[object]) -> _Nested:
        below = 0
        if _Nested in set(map(type, values)):
            below = max(value.levels for value in values if isinstance(value, _Nested))
        if below + 1 >= len(self._nested):
            raise _Unusable(*_TOO_DEEP)
        return self._nested[below + 1]

    def _stand_for_map(self, found: dict[object, object]) -> _Nested:
        self._last = found
        if set(map(type, found)) - {str}:
            wrong = next(key for key in found if not isinstance(key, str))
            raise _Unusable("bad_record", f"keys are text, got {_kind(wrong)}")
        return self._stand_for(found.values())


def _refuse_extension(code: int, _data: bytes) -> object:
    raise _Unusable("bad_record", f"a value cannot be a msgpack extension of type {code}")


def _nested_fault(value: object, depth: int) -> Fault | None:
    # Recursion goes no deeper than the limit, whatever was sent.
    if type(value) in LEAF_TYPES or isinstance(value, _Nested):
        return None
    if depth == 0:
        return Fault(*_TOO_DEEP)
    if isinstance(value, dict):
        for key, inner in value.items():
            if not isinstance(key, str):
                return Fault("bad_record", f"keys are text, got {_kind(key)}")
            fault = _nested_fault(inner, depth - 1)
            if fault is not None:
                return fault
        return None
    if isinstance(value, list):
        for inner in value:
            fault = _nested_fault(inner, depth - 1)
            if fault is not None:
                return fault
        return None
    return Fault("bad_record", f"a value cannot be {_kind(value)}")


def _kind(value: object) -> str:
    if isinstance(value, msgspec.msgpack.Ext):
        return f"a msgpack extension of type {value.code}"
    names = {type(None): "null", list: "an array", tuple: "an array", dict: "a map"}
    names |= {_Nested: "an array or a map"}
    names |= {bytes: "binary", datetime: "a timestamp", bool: "true or false", str: "text"}
    return names.get(type(value), "a number")
