from __future__ import annotations

from typing import Any

import pytest

from tests.crash.aggregates import Aggregate
from tests.crash.sensor import KINDS

KIND = KINDS["deep/5"]
SENT = [1, 2, 3, 5, 8, 9]


def told(numbers: list[int], **other: Any) -> Aggregate:
    """What the product says of these records, or something else."""
    values = [KIND.stored(number)["v"] for number in numbers]
    fields: dict[str, Any] = {"records": len(numbers), "token_last": f"deep/5:{numbers[-1]}"}
    for name, found in (("n", numbers), ("v", values)):
        figures = (len(found), min(found), max(found), sum(found) / len(found), found[-1])
        names = ("count", "min", "max", "mean", "last")
        fields |= {f"{name}_{figure}": one for figure, one in zip(names, figures, strict=True)}
    return Aggregate("deep/5", fields | other)


def test_an_aggregate_stands_for_all_that_was_sent_from_its_first_to_its_last() -> None:
    assert told([3, 5, 8]).stands_for(KIND, SENT) == [3, 5, 8]


@pytest.mark.parametrize(
    "wrong",
    [
        told([3, 8]),
        told([3, 5, 5, 8]),
        told([3, 4, 5]),
        told([3, 5], records=3),
        told([3, 5], v_max=1000.0),
        told([3, 5], n_mean=4.5),
        told([3, 5], w_count=2),
        told([3, 5], pad_last="never"),
        told([3, 5], n_min="3"),
        told([6, 7]),
    ],
)
def test_one_that_says_anything_else_is_found_out(wrong: Aggregate) -> None:
    assert isinstance(wrong.stands_for(KIND, SENT), str)


def test_it_travels_among_tokens_and_is_known_among_them() -> None:
    one = told([1, 2])
    assert Aggregate.of_token(one.token) == one
    assert Aggregate.of_token("deep/5:7") is None
    assert Aggregate.of("$thin/deep/5", one.fields) == one
    assert Aggregate.of("deep/5", one.fields) is None
