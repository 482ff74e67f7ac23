"""Conditions of rules and alarms: a filter, or an expression in CEL.

``cel:`` in front says that what follows is written in CEL, the Common Expression Language, whose
specification is at cel.dev. It is for those who know it from elsewhere: a filter takes 1.5 us a
record, CEL 10 (`cel-expr-python` 0.1.3), the library is an extra, and has 50 MB on the disk and
4 MB in memory.

An expression knows ``fields`` (a map), ``stream``, ``source`` and, where records are stored
already, ``seq``. It has to come to true or false. Where it fails on a record (a field that is not
there, kinds that cannot be compared, a loop over too much), the record is not found, as with a
filter.
"""

from __future__ import annotations

from collections.abc import Collection

from edge_agent.errors import ProtocolError
from edge_agent.filter import OWN, Filter, Filtered, compile_filter
from edge_agent.moments import bad_query

CEL = "cel:"
#: What a condition may name before a record is stored, and has its number, besides its fields.
UNSTORED = ("$stream", "$source")


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
        expected = 'the library cel-expr-python: pip install "trio-edge-agent[cel]"'
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
        try:
            return expression.eval(data={n: getattr(record, n) for n in names}).value() is True
        except RuntimeError:
            return False  # More loops than the library allows.

    return holds


def _mistake(why: str, text: str) -> ProtocolError:
    # Of its several lines, the first says what and where.
    first = why.removeprefix("INVALID_ARGUMENT: ").partition("\n")[0].removeprefix("ERROR: ")
    where = first.replace("<input>:", "line and column ")
    return bad_query(f"filter: expected true or false in CEL, found {text[:200]!r}: {where}")
