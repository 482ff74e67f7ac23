from __future__ import annotations

from benchmarks.table import Row, markdown, number


def test_rates_and_efficiency_are_records_by_time_and_by_cpu_time() -> None:
    row = Row(records=1000, seconds=2.0, cpu_seconds=0.5)

    assert (row.rate, row.efficiency) == (500.0, 2000.0)


def test_what_took_no_measurable_time_has_no_rate() -> None:
    assert (Row(10, 0.0, 0.0).rate, Row(10, 0.0, 0.0).efficiency) == (0.0, 0.0)


def test_a_table_is_markdown() -> None:
    assert markdown(("a", "b"), [(1, "x")]) == "| a | b |\n|---|---|\n| 1 | x |"


def test_numbers_have_separators_or_three_digits() -> None:
    assert [number(value) for value in (1234567.8, 999.5, 2.345, 0.0)] == [
        "1,234,568", "1e+03", "2.35", "0",
    ]  # fmt: skip
