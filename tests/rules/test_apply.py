"""What becomes of runs: bytes, numbers and times of what is left; streams that are made."""

from __future__ import annotations

import tracemalloc
from typing import Any, get_args

import msgpack
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_agent.config import Calibration, Conversion, Limits, Profile, Schema, Size
from edge_agent.rules import CompiledRules, Step
from edge_agent.rules.steps import Fields, Outcome, Spot, time_of
from edge_agent.values.filter import compile_filter
from edge_agent.values.record import Run
from edge_agent.wire import RUN_BYTES_MAX, Arrival, WireLimits, fault_of_record
from tests.rules.support import apply, by_stream, compiled, kept, maps, reasons, rule
from tests.waist import NOW_NS, SECOND, run_of

#: Names that some rule or profile knows.
KNOWN = """t a b c u x n v method params events switch:0 ts Time ENERGY Uptime POWER TempUnit id
value state color last_seen bn bt bv bu s vs vd specversion type source data data_base64
pick flatten"""
NAMES = st.sampled_from(tuple(KNOWN.split())) | st.text(max_size=3)

ODD = rule("odd", where="odd", drop="record")


def numbers(runs: tuple[Run, ...]) -> list[tuple[str, int, int]]:
    return [(run.stream, run.source_seq, run.count) for run in runs]


def test_streams_that_no_rule_names_pass_untouched() -> None:
    rules = compiled(rule(drop=("t",)))
    runs = (run_of({"t": 1}, stream="cellar/1"), run_of({"t": 2}, stream="cellar/2"))
    assert rules.apply(runs).runs is runs
    assert compiled().apply(runs).runs is runs


def test_a_run_in_which_no_rule_finds_anything_keeps_its_own_bytes() -> None:
    # A float32, which would come back as a double.
    body = b"\x81\xa1t\xca\x41\xac\x00\x00"
    run = msgspec.structs.replace(run_of({"t": 1}), body=body)
    rules = compiled(rule(drop=("x",)), rule(convert={"y": "F->C"}), rule(where="x", redact=("t",)))
    assert rules.apply((run,)).runs[0] is run


def test_a_record_in_which_no_rule_finds_anything_keeps_its_own_bytes() -> None:
    body = b"\x81\xa1t\xca\x41\xac\x00\x00"
    run = msgspec.structs.replace(run_of({"t": 1}, {"x": 1}), body=body + msgpack.packb({"x": 1}))
    (changed,) = compiled(rule(drop=("x",))).apply((run,)).runs
    assert changed.body == body + b"\x80"


def test_everything_about_a_run_but_its_records_stays() -> None:
    run = run_of({"x": 1, "t": 2}, {"t": 3}, first=7)
    (changed,) = compiled(rule(drop=("x",))).apply((run,)).runs
    assert (changed.count, changed.source_seq, changed.source) == (2, 7, "pi-7")
    assert (changed.time_min_ns, changed.arrival_ns) == (run.time_min_ns, run.arrival_ns)


def test_values_survive_re_encoding_exactly() -> None:
    moment = msgpack.Timestamp(1_795_341_600, 123_456_789)
    record = {
        "time": moment,
        "raw": b"\xff",
        "big": 2**64 - 1,
        "deep": {"a": [1, None, True, {"b": 1.5}]},
        "ext": msgpack.ExtType(5, b"x"),
    }
    run = Run("greenhouse/1", "s", 0, 0, True, 1, msgpack.packb(record | {"x": 1}), 0, 0)
    (changed,) = compiled(rule(drop=("x",))).apply((run,)).runs
    assert maps(changed) == [record]


def test_more_streams_than_are_remembered_change_nothing() -> None:
    rules = compiled(rule(streams=("**",), drop=("x",)))
    for number in range(5000):
        (run,) = rules.apply((run_of({"x": 1, "t": 2}, stream=f"s/{number}"),)).runs
        assert run.body == msgpack.packb({"t": 2})


def test_a_record_that_is_left_out_uses_its_number_up() -> None:
    records = [{"n": 1}, {"n": 2, "odd": 1}, {"n": 3}, {"n": 4}, {"n": 5, "odd": 1}]
    ruled = apply([ODD], *records, first=10)
    assert numbers(ruled.runs) == [("greenhouse/1", 10, 1), ("greenhouse/1", 12, 2)]
    assert [maps(run) for run in ruled.runs] == [[{"n": 1}], [{"n": 3}, {"n": 4}]]
    assert numbers(apply([ODD], *records).runs) == [("greenhouse/1", 0, 3)]


def test_what_is_set_aside_keeps_number_and_bytes_and_its_neighbours_stay() -> None:
    strict = rule("strict", schema=Schema(types={"t": "number"}))
    ruled = apply([strict], {"t": 1}, {"t": "x"}, {"t": 3}, first=4)
    assert reasons(ruled) == [(5, "bad_schema", "rule strict: t: expected number, got 'x'")]
    assert ruled.rejects[0].body == msgpack.packb({"t": "x"})
    assert numbers(ruled.runs) == [("greenhouse/1", 4, 1), ("greenhouse/1", 6, 1)]


def test_a_record_becomes_several_in_streams_below_under_its_number() -> None:
    pick = rule(pick={"{stream}/a": {"v": "a"}, "{stream}/b": {"v": "b"}})
    ruled = apply([pick], {"a": 1, "b": 2}, {"a": 3}, {"b": 4}, first=1)
    assert by_stream(ruled) == {
        "greenhouse/1/a": [{"v": 1}, {"v": 3}],
        "greenhouse/1/b": [{"v": 2}, {"v": 4}],
    }
    assert sorted(numbers(ruled.runs)) == [
        ("greenhouse/1/a", 1, 2), ("greenhouse/1/b", 1, 1), ("greenhouse/1/b", 3, 1),
    ]  # fmt: skip


def test_rules_further_down_see_what_was_made_in_its_new_stream() -> None:
    pick = rule(pick={"t": "inner.t", "x": "x"}, into="{stream}/inner")
    late = rule(streams=("greenhouse/*/inner",), drop=("x",))
    early = rule(streams=("greenhouse/*/inner",), drop=("t",))
    ruled = apply([early, pick, late], {"inner": {"t": 1}, "x": 2})
    assert by_stream(ruled) == {"greenhouse/1/inner": [{"t": 1}]}


def test_nothing_of_a_record_is_stored_where_a_part_of_it_does_not_fit() -> None:
    pick = rule(pick={"{stream}/a": {"v": "a"}, "{stream}/b": {"v": "b"}})
    strict = rule("strict", streams=("**",), schema=Schema(ranges={"v": (0, 9)}))
    ruled = apply([pick, strict], {"a": 1, "b": 99}, first=1)
    assert ruled.runs == () and [number for number, *_ in reasons(ruled)] == [1]


def test_a_stream_that_was_named_by_the_record_is_not_told_in_another() -> None:
    pick = rule(pick={"t": "t", "s": "s"}, into="{stream}/below")
    flat = rule(streams=("**",), flatten="_")
    ruled = apply([pick, flat], {"t": 1, "stream": "greenhouse/1"})
    assert by_stream(ruled) == {"greenhouse/1/below": [{"t": 1}]}


def test_a_stream_whose_name_becomes_too_long_is_set_aside() -> None:
    pick = rule(streams=("**",), pick={"t": "t"}, into="{stream}/below")
    ruled = apply([pick], {"t": 1}, stream="s" * 198)
    assert [code for _, code, _ in reasons(ruled)] == ["bad_stream"]


def test_what_rules_make_too_big_is_set_aside() -> None:
    rules = compiled(rule(rename={"t": "x" * 300}), limits=Limits(record_bytes=Size(256)))
    ruled = rules.apply((run_of({"t": 1}, {"h": 1}),))
    assert [code for _, code, _ in reasons(ruled)] == ["too_big"]
    assert [maps(run) for run in ruled.runs] == [[{"h": 1}]]


@pytest.mark.parametrize(
    "profile, record",
    [
        # Each part has the unit, or the time, of the whole.
        (
            "tasmota",
            {"Time": "T", "TempUnit": "C" * 20_000}
            | {f"s{n}": {"Temperature": 1} for n in range(500)},
        ),
        (
            "shelly-gen2",
            {
                "time": "2026-11-29T00:00:00." + "0" * 20_000 + "Z",
                "method": "NotifyStatus",
                "params": {f"s{n}": {"t": 1} for n in range(500)},
            },
        ),
    ],
)
def test_what_is_common_to_many_parts_is_not_repeated_without_end(
    profile: str, record: dict[str, object]
) -> None:
    tracemalloc.start()
    ruled = apply([rule(profile=profile)], record, {"Time": "T", "s": {"Temperature": 1}})
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    ((_, code, reason),) = reasons(ruled)
    assert code == "too_big" and "of 262144 that" in reason
    assert sum(run.count for run in ruled.runs) == 1 and peak < 3_000_000


def test_a_run_that_rules_make_too_long_becomes_several() -> None:
    records = [{"t": n} for n in range(400)]
    ruled = apply([rule(rename={"t": "x" * 300})], *records, first=1)
    assert len(ruled.runs) == 2 and all(len(run.body) <= RUN_BYTES_MAX for run in ruled.runs)
    assert ruled.runs[1].source_seq == 1 + ruled.runs[0].count
    assert sum(run.count for run in ruled.runs) == 400


def test_a_time_that_a_rule_has_found_is_the_times_of_its_run() -> None:
    pick = rule(pick={"time": "p.ts", "t": "p.t"})
    moment_s = NOW_NS // SECOND - 100
    ruled = apply([pick], {"p": {"ts": moment_s, "t": 1}}, {"p": {"t": 2}})
    assert [fields.get("time") for fields in maps(ruled.runs[0])] == [moment_s, None]
    assert (ruled.runs[0].time_min_ns, ruled.runs[0].time_max_ns) == (moment_s * SECOND, NOW_NS)


def test_a_time_that_is_none_is_set_aside() -> None:
    pick = rule(pick={"time": "ts", "t": "t"})
    for rules in ([pick], [pick, rule(limit="1/1m")], [pick, rule(deadband={"t": 1})]):
        ruled = apply(rules, {"ts": "noon", "t": 1})
        assert [code for _, code, _ in reasons(ruled)] == ["bad_time"]


def test_what_came_in_is_not_too_big_although_it_is_longer_than_it_was_as_json() -> None:
    # Of 64 KiB of "1.5," 147 KiB of msgpack.
    large = {"values": [1.5] * 16_000, "x": 1}
    apart = rule(profile="zigbee2mqtt")
    for rules in ([rule(drop=("x",))], [apart, rule(drop=("x",))]):
        ruled = apply(rules, large)
        assert not ruled.rejects and "x" not in maps(ruled.runs[0])[0]


def test_a_mistake_of_a_rule_costs_the_record_that_it_was_made_with() -> None:
    def fail(fields: Fields, spot: Spot) -> Outcome:
        raise RuntimeError("unexpected")

    steps = [Step(0, "r", "", lambda stream: True, compile_filter("bad"), fail)]
    ruled = CompiledRules(steps).apply((run_of({"t": 1}, {"bad": 1}, {"t": 2}, first=1),))
    assert reasons(ruled) == [(2, "rule_failed", "RuntimeError: unexpected")]
    assert numbers(ruled.runs) == [("greenhouse/1", 1, 1), ("greenhouse/1", 3, 1)]


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats()
    | st.text(max_size=5)
    | st.binary(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=8,
)
RECORDS = st.lists(
    st.dictionaries(NAMES, VALUES, max_size=6).map(
        lambda fields: {name: v for name, v in fields.items() if name not in ("time", "stream")}
    ),
    min_size=1,
    max_size=8,
)
EVERYTHING = [
    rule("where", where='a."b".c > 1 or t', drop=("x",)),
    rule("convert", convert={"t": "F->C", "a": Conversion(scale=0.1, into="b")}),
    rule("calibrate", calibrate={"t": Calibration(table=((0.0, 1.0), (1.0, 2.5)))}),
    rule("truncate", truncate={"a": 2, "n": 0}),
    rule("schema", schema=Schema(types={"v": "number?"}, ranges={"t": (-1e6, 1e6)})),
    rule("deadband", deadband={"t": 0.5, "u": 3}),
    rule("limit", limit="5/1m"),
    rule("pick", where="pick", pick={"{stream}/a": {"a": "a.b"}, "{stream}": {"t": "t.0"}}),
    rule("flatten", where="flatten", flatten="_"),
    *(rule(name, where=f"$stream == 'greenhouse/{n}'", profile=name)
      for n, name in enumerate(get_args(Profile), 1)),
]  # fmt: skip


@settings(max_examples=40)
@given(RECORDS, st.integers(1, 7))
def test_every_number_is_used_up_once_and_what_is_stored_can_be_read(
    records: list[dict[str, Any]], number: int
) -> None:
    ruled = apply(EVERYTHING, *records, stream=f"greenhouse/{number}", first=100)
    stored = {run.source_seq + place for run in ruled.runs for place in range(run.count)}
    set_aside = {reject.number for reject in ruled.rejects}
    assert "rule_failed" not in {reject.code for reject in ruled.rejects}
    assert not stored & set_aside
    gone = set(range(100, 100 + len(records))) - stored - set_aside
    assert len(gone) <= len(ruled.left_out)
    for run in ruled.runs:
        assert len(maps(run)) == run.count
        arrival = Arrival(run.stream, "pi", NOW_NS, synced=True)
        for fields in maps(run):
            assert fault_of_record(msgpack.packb(fields), arrival, WireLimits()) is None
            time_ns = time_of(fields.get("time"), NOW_NS)
            assert run.time_min_ns <= time_ns <= run.time_max_ns


def test_a_record_without_anything_to_pick_is_left_out() -> None:
    ruled = apply([rule("p", pick={"t": "a.t"})], {"b": 1}, {"a": {"t": 1}})
    assert [step.name for step in ruled.left_out] == ["p"]
    assert by_stream(ruled) == {"greenhouse/1": [{"t": 1}]}


def test_the_time_goes_with_what_is_picked() -> None:
    time = {"historic": 5}
    assert kept([rule(pick={"t": "a.0"})], {"a": [1], "time": time}) == [{"t": 1, "time": time}]
