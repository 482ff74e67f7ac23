from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_agent.errors import ProtocolError
from edge_agent.values.filter import compile_filter
from edge_agent.values.record import Record

FIELDS: dict[str, Any] = {
    "t": 21.5,
    "n": 3,
    "site": "north",
    "on": True,
    "off": False,
    "none": None,
    "door": {"open": True, "count": 2},
    "rain (mm)": 4,
    "a.b": 7,
    "list": [1, 2],
    "params": {"switch:0": {"apower": 8.9}, "a b": 1},
}


def record(fields: dict[str, Any]) -> Record:
    return Record("main", 9, "greenhouse/1", 0, "sensor", 0, True, "pi-7", 1, fields)


@pytest.mark.parametrize(
    "text",
    [
        "t > 20", "t>=21.5", "n == 3", "n == 3.0", "n != 4", "-1 < n", 'site == "north"',
        "site == 'north'", "site < 'south'", "on", "on == true", "not off", "not none",
        "none == null", "door.open", "door.count == 2", "`rain (mm)` > 3", "a.b == 7",
        "t > 20 and n == 3", "t > 99 or n == 3", "t > 99 and n == 99 or n == 3",
        "not (t > 99 or n == 99)", "not not on", "n", '$stream == "greenhouse/1"',
        "$source == 'pi-7'", "$seq == 9", "on != 1", "site != 3", "list != 1", "3 == n",
        "t > 1e1", "t > +.5e1", 'params."switch:0".apower > 8', 'params."a b" == 1',
        'params."a b"', "params.`a b` > 0", "list.0 == 1",
    ],
)  # fmt: skip
def test_these_match(text: str) -> None:
    assert compile_filter(text)(record(FIELDS))


@pytest.mark.parametrize(
    "text",
    [
        "t < 20", "missing", "missing == 1", "missing != 1", "missing < 1", "not n == 3",
        "site > 3", "on == 1", "on > 0", "off", "none", "list > 1", "door > 1", "door.shut",
        "door.open.deep == 1", 'params."switch:1".apower', "list.2", "t > 20 and n == 99",
        "n == 99 and n == 3 or t > 99",
    ],
)  # fmt: skip
def test_these_do_not(text: str) -> None:
    assert not compile_filter(text)(record(FIELDS))


@pytest.mark.parametrize(
    "text, says",
    [
        ("t >", "expected a field, a number or a text in quotes at 4, found the end"),
        ("t > 20 n", "expected 'and', 'or' or the end at 8, found 'n'"),
        ("(t > 20", r"expected '\)' at 8"),
        ("t = 20", "expected '==' at 3, found '= 20'"),
        ("cel: fields.t > 20", "CEL is for rules and alarms"),
        ("and", "expected a field"),
        ("", "expected a field"),
        ("$who == 1", "is none of"),
        ("x" * 1001, "at most 1000 characters"),
        ("(" * 40 + "t" + ")" * 40, "levels deep"),
        ('site == "north', "found"),
    ],
)
def test_mistakes_are_told_with_their_place(text: str, says: str) -> None:
    with pytest.raises(ProtocolError, match=says) as caught:
        compile_filter(text)
    assert caught.value.code == "bad_query"


@settings(max_examples=150)
@given(st.text(alphabet="tn.()<>=!&|\"'`$ andort019-", max_size=40))
def test_any_text_is_either_a_filter_or_a_bad_query(text: str) -> None:
    with suppress(ProtocolError):
        assert compile_filter(text)(record(FIELDS)) in (True, False)
