from __future__ import annotations

import tracemalloc
from typing import Any

import pytest

from edge_agent.ops.last_values import (
    FIELDS_MAX,
    SPARK_POINTS,
    WORD_CHARACTERS_MAX,
    WORDS_MAX,
    LastValue,
    LastValues,
)
from edge_agent.values.record import NANOSECONDS, Record

START_S = 1_800_000_000


def record(second: int, stream: str = "a/1", /, **fields: Any) -> Record:
    when_ns = (START_S + second) * NANOSECONDS
    return Record("main", 1, stream, when_ns, "sensor", when_ns, True, "s", 0, fields)


def known(values: LastValues, stream: str = "a/1") -> LastValue:
    found = values.get(stream)
    assert found is not None
    return found


def test_the_numbers_of_the_newest_record_are_known_with_its_time() -> None:
    values = LastValues()
    values.note(record(1, t=20, h=40))
    values.note(record(2, t=21.5, params={"x": 3}, name="text"))
    assert known(values).numbers == {"t": 21.5, "params.x": 3}
    assert known(values).time_ns == (START_S + 2) * NANOSECONDS
    assert known(values).trust == "sensor"
    assert values.get("a/2") is None


def test_a_sparkline_has_a_point_a_second_and_so_many_in_all() -> None:
    values = LastValues()
    for number in range(200):
        values.note(record(number // 2, t=number))
    spark = known(values).spark
    assert len(spark) == SPARK_POINTS and list(spark)[-3:] == [195, 197, 199]
    assert known(values).spark_field == "t"


def test_a_sparkline_stays_with_its_field_until_that_has_not_come_for_long() -> None:
    values = LastValues()
    values.note(record(0, t=1, h=2))
    values.note(record(1, h=3))
    values.note(record(2, h=3, t=4))
    assert list(known(values).spark) == [1, 4]
    for second in range(SPARK_POINTS + 1):
        values.note(record(10 + second, h=second))
    assert known(values).spark_field == "h" and list(known(values).spark) == [60]


def test_a_word_in_between_leaves_the_numbers_with_their_own_time() -> None:
    values = LastValues()
    values.note(record(1, t=20))
    values.note(record(2, state="open"))
    assert known(values).numbers == {"t": 20} and known(values).words == {"state": "open"}
    values.note(record(1, t=20))
    assert known(values).words == {"state": "open"}
    assert known(values).time_ns == (START_S + 1) * NANOSECONDS


def test_a_record_without_numbers_has_none() -> None:
    values = LastValues()
    values.note(record(0, state="on"))
    assert known(values).numbers == {} and known(values).spark_field == ""
    values.note(record(1, n=10**400))
    assert known(values).numbers == {"n": 10**400} and not known(values).spark


def test_words_are_kept_as_text_and_cut_off() -> None:
    values = LastValues()
    values.note(record(0, POWER="ON", contact=False, long="x" * 500))
    long = known(values).words["long"]
    assert known(values).words == {"POWER": "ON", "contact": "false", "long": long}
    assert len(long) == WORD_CHARACTERS_MAX and long.endswith("x…")
    values.note(record(1, **{f"w{n}": "x" for n in range(20)}))
    assert len(known(values).words) == WORDS_MAX


def test_a_field_is_what_it_was_last_a_number_or_a_word() -> None:
    values = LastValues()
    values.note(record(0, t=20, h=40))
    values.note(record(1, t="broken"))
    assert known(values).numbers == dict(known(values).told()) == {"h": 40}
    assert known(values).words == {"t": "broken"}
    # The word is forgotten for another one; the number before it does not come back for that.
    values.note(record(2, state="open"))
    assert known(values).numbers == {"h": 40} and known(values).words == {"state": "open"}
    values.note(record(3, t=21))
    values.note(record(4, t="broken"))
    values.note(record(5, state="open"))
    assert known(values).numbers == {} and list(known(values).spark) == [20, 21]
    values.note(record(6, t=21, state=1))
    assert known(values).numbers == {"t": 21, "state": 1} and not known(values).words
    assert values.bytes == known(values).bytes < 400


def test_only_so_many_fields_are_kept() -> None:
    values = LastValues()
    values.note(record(0, **dict.fromkeys(map(str, range(100)), 1)))
    assert len(known(values).numbers) == FIELDS_MAX


def test_beyond_the_bound_those_heard_of_longest_ago_lose_theirs() -> None:
    values = LastValues(bytes_max=3000)
    for number in range(20):
        values.note(record(number, f"s/{number}", t=number))
        values.note(record(number, "s/0", t=number))
    assert values.bytes <= 3000 and values.forgotten > 0
    assert values.get("s/0") and values.get("s/19") and not values.get("s/1")
    values.forget("s/0")
    values.forget("s/0")
    for number in range(20):
        values.forget(f"s/{number}")
    assert values.bytes == 0


@pytest.mark.parametrize("words", [0, 2])
def test_what_is_said_of_the_memory_is_what_it_takes(words: int) -> None:
    values = LastValues()
    records = [
        record(
            n, f"s/{m}", t=n + 0.5, h=n + 0.25, p=n * 1.5, q=n * 2.5,
            **{f"w{w}": f"state {m} of {n}" for w in range(words)},
        )
        for m in range(50)
        for n in range(SPARK_POINTS)
    ]  # fmt: skip
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    for one in records:
        values.note(one)
    after, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    taken = after - before
    # Numbers lie in the records, too, which are kept here and are not there.
    assert 0.5 * values.bytes < taken < 1.2 * values.bytes
    assert values.bytes / 50 < 1100 + 250 * words
