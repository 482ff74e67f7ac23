"""Who may come in, as whom and how fast."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge_agent.config.shape import Listen
from edge_agent.security.tokens import Tokens, add_token
from edge_agent.server.admission import (
    BUCKETS_MAX,
    Grant,
    Peer,
    RateLimits,
    admit,
)
from edge_agent.server.handshake import HandshakeRefusal, Upgrade

LOCAL = Peer("127.0.0.1", True)
AWAY = Peer("192.0.2.7", False)


def upgrade(
    *,
    host: str | None = "localhost:8765",
    origin: str | None = None,
    authorization: str | None = None,
) -> Upgrade:
    return Upgrade("/ingest/a", host, origin, authorization, (), key=b"", early=b"")


def refused(
    request: Upgrade, peer: Peer = LOCAL, listen: Listen | None = None, tokens: Tokens | None = None
) -> int:
    with pytest.raises(HandshakeRefusal) as caught:
        admit(request, None, peer, listen or Listen(), tokens)
    return caught.value.status


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST:1", "127.0.0.1:8765", "127.9.9.9", "[::1]:8765", "[::1]"]
)
def test_loopback_names_are_welcome_on_loopback(host: str) -> None:
    assert admit(upgrade(host=host), None, LOCAL, Listen(), None).may_write is None


@pytest.mark.parametrize("host", ["evil.example", "localhost.evil.example", "192.0.2.1", "", None])
def test_a_foreign_host_on_loopback_is_refused(host: str | None) -> None:
    assert refused(upgrade(host=host)) == 403


def test_an_unknown_token_is_told_beside_a_foreign_host(tmp_path: Path) -> None:
    add_token(tmp_path / "tokens", "one", write=["**"])
    request = upgrade(host="greenhouse.local", authorization="Bearer wrong")
    with pytest.raises(HandshakeRefusal, match=r"listen\.hosts, and the token is not known here"):
        admit(request, None, LOCAL, Listen(), Tokens(tmp_path / "tokens"))


def test_a_listed_host_is_welcome() -> None:
    admit(upgrade(host="Agent.local:80"), None, LOCAL, Listen(hosts=("agent.local",)), None)


def test_off_loopback_any_host_may_be_named() -> None:
    admit(upgrade(host="whatever.example"), None, AWAY, Listen(), None)


def test_a_browser_needs_a_listed_origin() -> None:
    page = upgrade(origin="https://page.example")
    assert refused(page) == 403
    assert refused(page, AWAY) == 403
    assert refused(upgrade(origin="null")) == 403
    admit(page, None, LOCAL, Listen(origins=("https://page.example",)), None)


class TestTokens:
    @pytest.fixture
    def path(self, tmp_path: Path) -> Path:
        return tmp_path / "tokens.json"

    def test_without_a_token_401(self, path: Path) -> None:
        add_token(path, "a", admin=True)
        tokens = Tokens(path)
        assert refused(upgrade(), tokens=tokens) == 401
        assert refused(upgrade(authorization="Basic abc"), tokens=tokens) == 401
        assert refused(upgrade(authorization="Bearer wrong"), tokens=tokens) == 401

    def test_a_bearer_token_says_what_is_allowed(self, path: Path) -> None:
        secret = add_token(path, "a", write=["x/**"], sources=["pi"])
        granted = admit(
            upgrade(authorization=f"bearer {secret}"), None, AWAY, Listen(), Tokens(path)
        )
        assert granted.name == "a"
        granted.require_write("x/1")
        with pytest.raises(HandshakeRefusal, match="'y'"):
            granted.require_write("y")
        with pytest.raises(HandshakeRefusal, match="reading"):
            granted.require_read()
        with pytest.raises(HandshakeRefusal, match="'forward'") as caught:
            granted.require_forward()
        assert caught.value.status == 403

    def test_a_browser_offers_its_token_as_a_subprotocol(self, path: Path) -> None:
        secret = add_token(path, "a", read=["x"], forward=True)
        granted = admit(upgrade(), secret, LOCAL, Listen(), Tokens(path))
        granted.require_read()
        granted.require_forward()

    def test_the_header_counts_where_both_are_given(self, path: Path) -> None:
        secret = add_token(path, "a", read=["x"])
        request = upgrade(authorization="Bearer other")
        with pytest.raises(HandshakeRefusal):
            admit(request, secret, LOCAL, Listen(), Tokens(path))


def test_without_a_tokens_file_everybody_may_do_everything() -> None:
    granted = admit(upgrade(), None, LOCAL, Listen(), None)
    assert granted == Grant(name="127.0.0.1")
    granted.require_write("any")
    granted.require_read()
    granted.require_forward()


class TestRates:
    def test_no_rate_means_no_limit(self) -> None:
        rates = RateLimits(0)
        rates.charge("a", 10**9, 0.0)
        assert rates.wait("a", 0.0) == 0

    def test_a_steady_sender_within_its_rate_is_never_stopped(self) -> None:
        rates = RateLimits(10)
        for at in range(1000):
            assert rates.wait("a", at * 0.1) == 0
            rates.charge("a", 1, at * 0.1)

    def test_a_faster_one_is_told_when_to_come_again(self) -> None:
        rates = RateLimits(10)
        for _ in range(10):
            assert rates.wait("a", 0.0) == 0
            rates.charge("a", 1, 0.0)
        wait = rates.wait("a", 0.0)
        assert 0 < wait <= 0.1
        assert rates.wait("a", wait) == 0

    def test_a_large_batch_is_taken_whole_and_paid_off_after(self) -> None:
        rates = RateLimits(10)
        rates.charge("a", 100, 0.0)
        assert rates.wait("a", 0.0) == pytest.approx(9.0)
        assert rates.wait("a", 8.9) > 0
        assert rates.wait("a", 9.1) == 0

    def test_one_name_does_not_slow_another(self) -> None:
        rates = RateLimits(10)
        rates.charge("a", 1000, 0.0)
        assert rates.wait("b", 0.0) == 0

    def test_names_are_forgotten_when_there_are_too_many(self) -> None:
        rates = RateLimits(10)
        for index in range(BUCKETS_MAX * 2):
            rates.charge(str(index), 100, 0.0)
        assert len(rates._buckets) <= BUCKETS_MAX
