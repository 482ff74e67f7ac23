"""Conditions of rules and alarms: a filter, or an expression in CEL.

``cel:`` in front says that what follows is written in CEL, the Common Expression Language, whose
specification is at cel.dev. It is for those who know it from elsewhere: a filter takes 1.5 us a
record, CEL 10 (`cel-expr-python` 0.1.3), the library is an extra, and has 50 MB on the disk and
4 MB in memory.

An expression knows ``fields`` (a map), ``stream``, ``source`` and, where records are stored
already, ``seq``. It has to come to true or false. Where integers do not fit an operator, they count
as floats: what measures 80.5 measures 80, too. Where it fails on a record (a field that is not
there, kinds that cannot be compared, a loop over too much), the record is not found, as with a
filter.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from edge_agent.errors import ProtocolError
from edge_agent.extras import library_needed
from edge_agent.values.filter import OWN, Filter, Filtered, compile_filter
from edge_agent.values.moments import bad_query

CEL = "cel:"
#: What a condition may name before a record is stored, and has its number, besides its fields.
UNSTORED = ("$stream", "$source")
#: What the library says where no operator is for these kinds of values.
_OVERLOAD = "No matching overload"
#: Integers up to it are floats, too.
_EXACT_MAX = 2**53


def compile_condition(text: str, own: Collection[str] = OWN) -> Filter:
    """A function that says whether a condition holds for a record; ``own`` as in `compile_filter`.

    Raises:
        ProtocolError: ``bad_query``, with the place and what was expected there.
    """
    if not text.startswith(CEL):
        return compile_filter(text, own)
    try:
        # An extra, and large: who has no CEL does not load it.
        from cel_expr_python import cel
    except ImportError:
        expected = library_needed("cel")
        raise bad_query(f"filter: expected {expected}, found a condition in CEL") from None
    kinds = {"fields": cel.Type.Map(cel.Type.STRING, cel.Type.DYN)}
    kinds |= {"stream": cel.Type.STRING, "source": cel.Type.STRING}
    if "$seq" in own:
        kinds["seq"] = cel.Type.INT
    try:
        expression = cel.NewEnv(variables=kinds).compile(text.removeprefix(CEL))
    except RuntimeError as error:
        raise _mistake(str(error), text) from None
    if expression.return_type() not in (cel.Type.BOOL, cel.Type.DYN):
        raise _mistake(f"it comes to {expression.return_type().name()}", text)
    names = tuple(kinds)

    def holds(record: Filtered) -> bool:
        known = {name: getattr(record, name) for name in names}
        try:
            found = expression.eval(data=known).value()
            if not isinstance(found, bool) and _OVERLOAD in str(found):
                # CEL adds no integer to a float; a sensor that measures 80.5 also measures 80.
                known["fields"] = _as_floats(known["fields"])
                found = expression.eval(data=known).value()
        except RuntimeError:
            return False  # More loops than the library allows.
        return found is True

    return holds


def _as_floats(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _as_floats(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_as_floats(one) for one in value]
    return float(value) if type(value) is int and abs(value) <= _EXACT_MAX else value


def _mistake(why: str, text: str) -> ProtocolError:
    # Of its several lines, the first says what and where.
    first = why.removeprefix("INVALID_ARGUMENT: ").partition("\n")[0].removeprefix("ERROR: ")
    where = first.replace("<input>:", "line and column ")
    return bad_query(f"filter: expected true or false in CEL, found {text[:200]!r}: {where}")
