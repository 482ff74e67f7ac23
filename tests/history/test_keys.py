"""Keys are in the order of level, time, series and part, and come apart again."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from edge_agent.history import keys

buckets = st.integers(-(2**31), 2**31 - 1)
places = st.builds(
    keys.PartKey,
    st.sampled_from(keys.LEVELS),
    buckets,
    st.integers(0, 2**32 - 1),
    st.integers(0, keys.PARTS_MAX),
)


@given(places, places)
def test_keys_are_in_the_order_of_what_they_are_made_of(
    one: keys.PartKey, other: keys.PartKey
) -> None:
    assert keys.split_key(keys.part_key(*one)) == one
    assert len(keys.part_key(*one)) == keys.KEY_BYTES
    assert (keys.part_key(*one) < keys.part_key(*other)) == (one < other)


@given(places)
def test_a_bucket_begins_and_ends_where_its_keys_do(place: keys.PartKey) -> None:
    key = keys.part_key(*place)
    assert keys.bucket_key(place.level, place.bucket) <= key
    if place.bucket < 2**31 - 1:
        assert key < keys.bucket_key(place.level, place.bucket + 1)


def test_buckets_beyond_all_times_are_the_first_and_the_last() -> None:
    assert keys.bucket_key(keys.RAW, -(2**40)) == keys.bucket_key(keys.RAW, -(2**31))
    assert keys.bucket_key(keys.RAW, 2**40) == keys.bucket_key(keys.RAW, 2**31 - 1)


def test_every_time_of_64_bits_has_its_bucket() -> None:
    for time_ns in (-(2**63), -1, 0, 2**63 - 1):
        for level in keys.LEVELS:
            bucket = time_ns // keys.BUCKET_NS[level]
            assert keys.split_key(keys.part_key(level, bucket, 1, 0)).bucket == bucket


@given(st.integers(0, 2**32 - 1))
def test_names_of_series_lie_before_all_parts(number: int) -> None:
    assert keys.META < keys.series_key(number) < keys.bucket_key(keys.RAW, -(2**31))
