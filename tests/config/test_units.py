from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_agent.config.quantities import Duration, Share, Size
from edge_agent.config.units import (
    format_address,
    format_duration,
    format_share,
    format_size,
    parse_address,
    parse_duration,
    parse_share,
    parse_size,
)


@pytest.mark.parametrize(
    "text, seconds",
    [("250ms", 0.25), ("1s", 1), ("1.5s", 1.5), ("10m", 600), ("12h", 43_200), ("30d", 2_592_000),
     ("0s", 0), (" 5 s ", 5), ("20us", 0.00002)],
)  # fmt: skip
def test_durations_are_seconds(text: str, seconds: float) -> None:
    parsed = parse_duration(text)
    assert parsed == seconds
    assert type(parsed) is Duration


@pytest.mark.parametrize(
    "text, size",
    [("0B", 0), ("1KiB", 1024), ("1kB", 1000), ("1KB", 1000), ("1.5MiB", 1_572_864),
     ("500MB", 500_000_000), ("2GiB", 2**31), ("1TiB", 2**40)],
)  # fmt: skip
def test_sizes_are_bytes(text: str, size: int) -> None:
    parsed = parse_size(text)
    assert parsed == size
    assert type(parsed) is Size


@pytest.mark.parametrize("text, share", [("70%", 0.7), ("2.5 %", 0.025), ("0%", 0), ("100%", 1)])
def test_shares_are_parts_of_one(text: str, share: float) -> None:
    parsed = parse_share(text)
    assert parsed == share
    assert type(parsed) is Share


@pytest.mark.parametrize(
    "bad", [30, 30.0, True, None, "", "30", "d", "30 x", "-1s", "1s2", "1e3s", "1,5s", ["1s"]]
)
def test_a_number_without_its_unit_is_refused(bad: object) -> None:
    for parse, word in (
        (parse_duration, "a duration"),
        (parse_size, "a size"),
        (parse_share, "a share"),
    ):
        with pytest.raises(ValueError, match=word):
            parse(bad)


def test_absurd_quantities_are_refused() -> None:
    with pytest.raises(ValueError, match="ten years"):
        parse_duration("4000000d")
    with pytest.raises(ValueError, match="8 EiB"):
        parse_size("99999999999TiB")
    with pytest.raises(ValueError, match="100%"):
        parse_share("101%")


@settings(max_examples=200)
@given(st.integers(0, 300_000_000_000_000))
def test_a_duration_reads_back_as_printed(micros: int) -> None:
    seconds = micros / 1_000_000
    assert parse_duration(format_duration(seconds)) == seconds


@settings(max_examples=200)
@given(st.integers(0, 2**52))
def test_a_size_reads_back_as_printed(size: int) -> None:
    assert parse_size(format_size(size)) == size


@pytest.mark.parametrize(
    "value, text",
    [(90, "90s"), (120, "2m"), (0, "0s"), (0.25, "250ms"), (86_400, "1d"), (0.00002, "20us")],
)
def test_durations_are_printed_in_the_largest_whole_unit(value: float, text: str) -> None:
    assert format_duration(value) == text


@pytest.mark.parametrize(
    "value, text",
    [(0, "0B"), (1, "1B"), (1024, "1KiB"), (1000, "1kB"), (65_536, "64KiB"), (10**9, "1GB")],
)
def test_sizes_are_printed_in_the_largest_whole_unit(value: int, text: str) -> None:
    assert format_size(value) == text


@pytest.mark.parametrize("value, text", [(0.7, "70%"), (0.02, "2%"), (0.025, "2.5%"), (1, "100%")])
def test_shares_are_printed_in_percent(value: float, text: str) -> None:
    assert format_share(value) == text
    assert parse_share(text) == value


@pytest.mark.parametrize(
    "text, address",
    [
        ("127.0.0.1:8765", ("127.0.0.1", 8765)),
        ("localhost:0", ("localhost", 0)),
        ("[::1]:8765", ("::1", 8765)),
        (":8765", ("", 8765)),
        ("pi-7.local:65535", ("pi-7.local", 65535)),
    ],
)
def test_addresses_are_host_and_port(text: str, address: tuple[str, int]) -> None:
    assert parse_address(text) == address


@pytest.mark.parametrize(
    "bad",
    [
        "",
        "8765",
        "127.0.0.1",
        "::1:8765",
        "[::1]",
        "[x]:1",
        "a b:1",
        "h:65536",
        "h:-1",
        "h:x",
        "h:²",
    ],
)
def test_what_is_no_address_is_refused(bad: str) -> None:
    with pytest.raises(ValueError, match="HOST:PORT"):
        parse_address(bad)


def test_an_address_of_ipv6_is_written_in_brackets() -> None:
    assert format_address("::1", 80) == "[::1]:80"
    assert format_address("pi.lan", 80) == "pi.lan:80"
