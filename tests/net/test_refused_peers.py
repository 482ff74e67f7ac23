"""What is kept of refusals, and what of that reaches the journal."""

from __future__ import annotations

import logging
from base64 import urlsafe_b64encode
from pathlib import Path

import pytest

from edge_agent.net.refused_peers import KEPT, LINES_PER_MINUTE, RefusedPeers
from edge_agent.security.tokens import add_token
from edge_agent.wire.subprotocol import TOKEN_PREFIX


class Clocks:
    def __init__(self) -> None:
        self.s = 1000.0

    def now(self) -> float:
        return self.s

    def wall_ns(self) -> int:
        return int(self.s * 1e9)


@pytest.fixture
def clocks() -> Clocks:
    return Clocks()


@pytest.fixture
def refused(clocks: Clocks) -> RefusedPeers:
    return RefusedPeers(clocks.wall_ns, clocks.now)


def test_a_token_in_a_url_that_is_nearly_right_is_neither_kept_nor_written(
    refused: RefusedPeers, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    secret = add_token(tmp_path / "tokens", "oven", write=["**"], in_url=True)
    refused.note("listen.address", "192.0.2.7", "unknown_path", f"'//token/{secret}/x': no path.")
    refused.note("listen.address", "192.0.2.7", "bad_stream", f"'/{secret[:20]}': cut short.")
    as_browsers_do = f"{TOKEN_PREFIX}{urlsafe_b64encode(secret.encode()).decode().rstrip('=')}"
    line = f"illegal header line: 'Sec-WebSocket-Protocol : {as_browsers_do}'"
    refused.note("listen.address", "192.0.2.7", "bad_request", line)
    told = [one.sentence for one in refused.listing()] + caplog.messages
    assert refused.listing()[0].sentence == line.replace(as_browsers_do, TOKEN_PREFIX + "…")
    assert len(told) == 6 and not [one for one in told if secret[4:10] in one]
    assert refused.listing()[2].sentence == "'//token/…/x': no path."


def test_one_entry_for_each_address_and_reason_with_its_count(
    refused: RefusedPeers, clocks: Clocks
) -> None:
    refused.note("listen.address", "192.0.2.7", "bad_token", "The token is not known.")
    clocks.s += 5
    refused.note("listen.address", "192.0.2.8", "bad_token", "The token is not known.")
    clocks.s += 5
    refused.note("listen.address", "192.0.2.7", "bad_token", "The token was revoked.")
    first, second = refused.listing()
    assert (first.address, first.count, first.sentence) == (
        "192.0.2.7",
        2,
        "The token was revoked.",
    )
    assert (first.first_ns, first.last_ns) == (1000 * 10**9, 1010 * 10**9)
    assert (second.address, second.count, second.port) == ("192.0.2.8", 1, "listen.address")


def test_only_so_many_are_kept_and_the_oldest_go(refused: RefusedPeers) -> None:
    for number in range(KEPT * 3):
        refused.note("listen.address", f"peer{number}", "timeout", "x")
    kept = refused.listing()
    assert len(kept) == KEPT
    assert kept[0].address == f"peer{KEPT * 3 - 1}"


def test_a_client_that_tries_every_second_for_a_day_leaves_few_lines(
    refused: RefusedPeers, clocks: Clocks, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    for _ in range(86_400):
        refused.note("listen.address", "192.0.2.7", "origin", "Not listed: listen.origins.")
        clocks.s += 1
    lines = [record.getMessage() for record in caplog.records]
    assert lines[0] == "refused 192.0.2.7 at listen.address: Not listed: listen.origins."
    assert "60 times since the last line" in lines[1]
    assert 20 < len(lines) < 40


def test_a_scan_from_many_addresses_leaves_few_lines_and_says_that_there_were_more(
    refused: RefusedPeers, clocks: Clocks, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    for number in range(1000):
        refused.note("listen.address", f"peer{number}", "timeout", "x")
    assert len(caplog.records) == LINES_PER_MINUTE
    clocks.s += 60
    refused.note("listen.address", "late", "timeout", "x")
    assert f"{1000 - LINES_PER_MINUTE} more lines" in caplog.records[-1].getMessage()


def test_what_a_peer_said_forges_no_line_and_moves_no_cursor(
    refused: RefusedPeers, caplog: pytest.LogCaptureFixture
) -> None:
    refused.note("listen.address", "a", "host", "Host 'x\r\n2026 all is well\x1b[2J\u202e' ü")
    (entry,) = refused.listing()
    assert entry.sentence == "Host 'x\\r\\n2026 all is well\\x1b[2J\\u202e' ü"
    assert "\n" not in caplog.records[-1].getMessage()
