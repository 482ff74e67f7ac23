"""Filters: a small language that says which records are wanted.

::

    t > 20 and site == "north"
    not (door.open or h >= 60) and $stream != "greenhouse/2"

- A name is a field of the record; ``a.b`` is a field inside a map. A name with other characters
  stands in backticks: ```rain (mm)```; within a path in double quotes or backticks:
  ``a."b:0".c``. ``$stream``, ``$source`` and ``$seq`` are the record's own.
- Literals: numbers, ``"text"`` or ``'text'``, ``true``, ``false``, ``null``.
- ``== != < <= > >=``, ``and``, ``or``, ``not``, parentheses. An operand alone asks whether it is
  there and neither ``false`` nor ``null``.
- A comparison with a field that the record does not have is false, whatever the operator. Values
  of different kinds are unequal and have no order; true and 1 are different kinds.

A filter is at most 1000 characters long and 32 levels deep. It reads, it never computes: there is
nothing in it that could take long or fail on a record.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Collection
from typing import Any, Final, Protocol

from edge_agent.errors import ProtocolError
from edge_agent.values.field_path import MISSING, look_up, parse_path
from edge_agent.values.moments import bad_query


class Filtered(Protocol):
    """What a filter looks at: a `Record`, or what is to become one."""

    @property
    def stream(self) -> str:
        """The stream's name."""

    @property
    def source(self) -> str:
        """Who sent it."""

    @property
    def seq(self) -> int:
        """Its number in its log."""

    @property
    def fields(self) -> dict[str, Any]:
        """What it holds."""


Filter = Callable[[Filtered], bool]
_Operand = Callable[[Filtered], Any]
FieldOf = Callable[[dict[str, Any]], Any]
"""What the fields of a record have at some place; None where it is not there."""

FILTER_LENGTH_MAX = 1000
FILTER_DEPTH_MAX = 32

_TOKEN = re.compile(
    r"""\s*(?:
        (?P<number>[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)
      | (?P<text>"[^"]*"|'[^']*')
      | (?P<name>[$]?[A-Za-z_][\w-]*(?:\.(?:[\w-]+|"[^"]+"|`[^`]+`))*|`[^`]+`)
      | (?P<mark>==|!=|<=|>=|<|>|\(|\))
    )\s*""",
    re.VERBOSE,
)
_COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_OWN: dict[str, _Operand] = {
    "$stream": lambda record: record.stream,
    "$source": lambda record: record.source,
    "$seq": lambda record: record.seq,
}
#: What a filter may name of a record besides its fields.
OWN = tuple(_OWN)
_WORDS = {"true": True, "false": False, "null": None}
_MISSING: Final = MISSING


def compile_filter(text: str, own: Collection[str] = OWN) -> Filter:
    """A function that says whether a record is wanted; ``own``: which of its own a text may name.

    Raises:
        ProtocolError: ``bad_query``, with the place and what was expected there.
    """
    if len(text) > FILTER_LENGTH_MAX:
        raise bad_query(f"filter: at most {FILTER_LENGTH_MAX} characters, this has {len(text)}")
    if text.startswith("cel:"):
        raise bad_query("filter: CEL is for rules and alarms; a question takes a filter: t > 30")
    parser = _Parser(text, own)
    wanted = parser.either()
    parser.expect_end()
    return wanted


def compile_field(text: str) -> FieldOf:
    """A function that takes one value out of a record's fields, None where it is not there.

    ``text`` is a path (`edge_agent.values.field_path`), or the name of a field in backticks.

    Raises:
        ProtocolError: ``bad_query``, with what was expected.
    """
    path: tuple[str, ...] = ()
    name = text[1:-1] if re.fullmatch("`[^`]+`", text) else text
    if name == text:
        try:
            path = parse_path(text)
        except ValueError as error:
            raise bad_query(f"expected {error}, or a name in backticks, found {text!r}") from None

    def field_of(fields: dict[str, Any]) -> Any:
        # A field whose very name has a dot in it goes before a path into maps.
        value = fields.get(name, MISSING)
        if value is MISSING and len(path) > 1:
            value = look_up(fields, path)
        return None if value is MISSING else value

    return field_of


class _Parser:
    """Recursive descent; one method for each level of precedence, loosest first."""

    def __init__(self, text: str, own: Collection[str]) -> None:
        self._text = text
        self._own = own
        self._at = 0
        self._depth = 0
        #: Kind, text and place of the token that is looked at.
        self._kind = ""
        self._token = ""
        self._place = 0
        self._advance()

    def either(self) -> Filter:
        """``a or b or c``."""
        parts = [self._all()]
        while self._take_word("or"):
            parts.append(self._all())
        if len(parts) == 1:
            return parts[0]
        return lambda record: any(part(record) for part in parts)

    def expect_end(self) -> None:
        """Everything has been understood."""
        if self._kind:
            raise self._error("'and', 'or' or the end")

    def _all(self) -> Filter:
        parts = [self._negation()]
        while self._take_word("and"):
            parts.append(self._negation())
        if len(parts) == 1:
            return parts[0]
        return lambda record: all(part(record) for part in parts)

    def _negation(self) -> Filter:
        self._depth += 1
        if self._depth > FILTER_DEPTH_MAX:
            raise bad_query(f"filter: more than {FILTER_DEPTH_MAX} levels deep")
        try:
            if self._take_word("not"):
                inner = self._negation()
                return lambda record: not inner(record)
            if self._take_mark("("):
                inner = self.either()
                if not self._take_mark(")"):
                    raise self._error("')'")
                return inner
            return self._comparison()
        finally:
            self._depth -= 1

    def _comparison(self) -> Filter:
        left = self._operand()
        if self._kind != "mark" or self._token not in _COMPARE:
            return lambda record: left(record) not in (_MISSING, None, False)
        compare, is_order = _COMPARE[self._token], self._token not in ("==", "!=")
        unequal = self._token == "!="
        self._advance()
        right = self._operand()

        def is_wanted(record: Filtered) -> bool:
            one, other = left(record), right(record)
            if one is _MISSING or other is _MISSING:
                return False
            if _kind(one) != _kind(other):
                return unequal
            if is_order and _kind(one) not in ("number", "text"):
                return False
            return compare(one, other)

        return is_wanted

    def _operand(self) -> _Operand:
        kind, token = self._kind, self._token
        if kind == "number":
            value: Any = float(token) if re.search(r"[.eE]", token) else int(token)
        elif kind == "text":
            value = token[1:-1]
        elif kind == "name" and token in _WORDS:
            value = _WORDS[token]
        elif kind == "name" and token not in ("and", "or", "not"):
            self._advance()
            return self._field(token)
        else:
            raise self._error("a field, a number or a text in quotes")
        self._advance()
        return lambda _: value

    def _field(self, token: str) -> _Operand:
        if token.startswith("$"):
            if token not in self._own:
                raise bad_query(f"filter: {token!r} is none of {', '.join(self._own)}")
            return _OWN[token]
        if token.startswith("`"):
            name = token[1:-1]
            return lambda record: record.fields.get(name, _MISSING)
        path = parse_path(token)
        if len(path) == 1:
            return lambda record: record.fields.get(token, _MISSING)
        return lambda record: _look_up(record.fields, token, path)

    def _take_word(self, word: str) -> bool:
        return self._take("name", word)

    def _take_mark(self, mark: str) -> bool:
        return self._take("mark", mark)

    def _take(self, kind: str, token: str) -> bool:
        if (self._kind, self._token) != (kind, token):
            return False
        self._advance()
        return True

    def _advance(self) -> None:
        self._place = self._at
        found = _TOKEN.match(self._text, self._at)
        if found is None:
            self._kind, self._token = "", ""
            rest = self._text[self._at :].strip()
            if rest:
                equal = rest.startswith("=")
                raise self._error("'=='" if equal else "something that belongs into a filter")
            return
        self._kind = found.lastgroup or ""
        self._token = found[self._kind]
        self._at = found.end()

    def _error(self, expected: str) -> ProtocolError:
        found = (
            repr(self._text[self._place :].strip()[:30]) if self._text[self._place :] else "the end"
        )
        return bad_query(f"filter: expected {expected} at {self._place + 1}, found {found}")


def _look_up(fields: dict[str, Any], name: str, path: tuple[str, ...]) -> Any:
    # A field whose very name has a dot in it goes before a path into maps.
    return fields[name] if name in fields else look_up(fields, path)


def _kind(value: object) -> str:
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, (int, float)):
        return "number"
    if isinstance(value, str):
        return "text"
    return type(value).__name__
