"""What both ports ask of names and of tokens."""

from __future__ import annotations

import socket

import pytest

from edge_agent.net.access import bearer_secret, host_name, is_bearer, is_loopback, is_ours


def test_host_names_are_taken_from_the_header() -> None:
    assert host_name("[2001:DB8::1]:80") == "2001:db8::1"
    assert host_name("user@a.example:80") == "a.example"
    assert host_name("[") == ""
    assert host_name("Pi.local.") == "pi.local"
    assert host_name(None) == ""


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "127.8.8.8", "::1", "localhost", "LOCALHOST", "::ffff:127.0.0.1"]
)
def test_loopback_is_recognised(host: str) -> None:
    assert is_loopback(host)


@pytest.mark.parametrize(
    "host", ["", "0.0.0.0", "::", "192.168.1.7", "pi.local", "localhost.example"]
)
def test_anything_else_may_be_reached_from_outside(host: str) -> None:
    assert not is_loopback(host)


def test_off_loopback_a_name_of_this_machine_or_an_address_is_ours() -> None:
    own = socket.gethostname().lower()
    for name in (own, f"{own}.local", "192.0.2.1", "2001:db8::1", "agent.lan"):
        assert is_ours(name, ["Agent.lan"], loopback=False)
    assert not is_ours("evil.example", ["agent.lan"], loopback=False)
    assert not is_ours("192.0.2.1", ["agent.lan"], loopback=True)


@pytest.mark.parametrize("loopback", [True, False])
def test_a_name_that_is_listed_with_its_final_dot_is_the_name_without_it(loopback: bool) -> None:
    for host in ("agent.lan", "agent.lan.:80"):
        assert is_ours(host_name(host), ["Agent.lan."], loopback=loopback)


@pytest.mark.parametrize(
    "header, secret",
    [
        ("Bearer abc", "abc"),
        ("bearer  abc ", "abc"),
        ("Bearer", ""),
        ("Basic abc", None),
        (None, None),
    ],
)
def test_a_secret_is_what_stands_behind_bearer(header: str | None, secret: str | None) -> None:
    assert bearer_secret(header) == secret
    assert is_bearer(header) == (secret is not None)
