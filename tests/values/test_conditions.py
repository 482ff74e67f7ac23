"""Conditions: filters, and expressions in CEL."""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass, field
from typing import Any

import pytest

from edge_agent.errors import ProtocolError
from edge_agent.extras import library_needed
from edge_agent.values.conditions import UNSTORED, compile_condition

LOOPS = "fields.l.all(x, fields.l.all(y, fields.l.all(z, x + y + z > 0)))"


@dataclass(frozen=True)
class Asked:
    fields: dict[str, Any] = field(default_factory=dict)
    stream: str = "greenhouse/1"
    source: str = "s1"
    seq: int = 7


@pytest.mark.parametrize(
    "text, fields, found",
    [
        ("t > 20", {"t": 21}, True),
        ("cel: fields.t > 20", {"t": 21}, True),
        ("cel: fields.t > 20", {"t": 20.5}, True),
        ("cel: fields.t > 20", {"t": 19}, False),
        ("cel: fields.t > 20", {}, False),
        ("cel: fields.t > 20", {"t": "warm"}, False),
        ("cel: fields.t > 20", {"t": 2**70}, False),
        ("cel: fields.t > 20", {"t": float("nan")}, False),
        ("cel: !has(fields.t)", {}, True),
        ("cel: fields.ok", {"ok": True}, True),
        ("cel: fields.ok", {"ok": 1}, False),
        ("cel: (fields.f - 32.0) / 1.8 > 20.0", {"f": 70.0}, True),
        ("cel: (fields.f - 32.0) / 1.8 > 20.0", {"f": 80}, True),
        ("cel: (fields.f - 32.0) / 1.8 > 20.0", {"f": 40, "n": 2**70}, False),
        ("cel: fields.n % 2 == 1", {"n": 3}, True),
        ("cel: fields.l.all(x, x + 0.5 > 2.0)", {"l": [2, 3.5]}, True),
        ("cel: fields.d.open && fields.l.exists(x, x > 2)", {"d": {"open": True}, "l": [3]}, True),
        ("cel: stream.startsWith('greenhouse/') && source == 's1' && seq == 7", {}, True),
        ("cel: fields['rain (mm)'] > 0.0", {"rain (mm)": 0.2}, True),
        (f"cel: {LOOPS}", {"l": [1] * 300}, False),
    ],
)  # fmt: skip
def test_a_condition_finds_records(text: str, fields: dict[str, Any], found: bool) -> None:
    assert compile_condition(text)(Asked(fields)) is found


@pytest.mark.parametrize(
    "text, why",
    [
        ("cel: fields.t >", "line and column 1:12: Syntax error"),
        ("cel: t > 20", "undeclared reference to 't'"),
        ("cel: 1 + 1", "it comes to INT"),
        ("cel:", "Syntax error"),
        ("t >", "expected"),
    ],
)
def test_a_condition_that_cannot_be_read_says_where(text: str, why: str) -> None:
    with pytest.raises(ProtocolError) as refused:
        compile_condition(text)
    assert why in refused.value.message
    assert "\n" not in refused.value.message


def test_before_a_record_is_stored_it_has_no_seq() -> None:
    with pytest.raises(ProtocolError, match="undeclared reference to 'seq'"):
        compile_condition("cel: seq > 1", UNSTORED)


def test_without_the_library_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cel_expr_python", None)
    with pytest.raises(ProtocolError, match=re.escape(library_needed("cel"))):
        compile_condition("cel: true")
    assert compile_condition("t > 1")(Asked({"t": 2}))
