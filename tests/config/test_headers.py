from __future__ import annotations

import pytest

from edge_agent.config.headers import header_name_problem, header_value_problem


@pytest.mark.parametrize("name", ["X-Api-Key", "Authorization", "User-Agent", "accept", "x_y.z"])
def test_good_names(name: str) -> None:
    assert header_name_problem(name) is None


@pytest.mark.parametrize(
    "name",
    ["", "A B", "A:", "A\r\nB", "Ä", "Host", "content-LENGTH", "Content-Type", "Idempotency-Key",
     "Transfer-Encoding", "Proxy-Authorization", "Sec-WebSocket-Key", "Upgrade", "x" * 101],
)  # fmt: skip
def test_names_that_are_none_or_not_a_persons_to_set(name: str) -> None:
    assert header_name_problem(name) is not None


@pytest.mark.parametrize("value", ["a", "Splunk 0-1-2", "ApiKey a==", "x" * 4096])
def test_good_values(value: str) -> None:
    assert header_value_problem(value) is None


@pytest.mark.parametrize("value", ["", " a", "a ", "a\nb", "a\r\nHost: x", "a\0", "ä", "x" * 4097])
def test_values_that_would_not_stay_a_value(value: str) -> None:
    assert header_value_problem(value) is not None
