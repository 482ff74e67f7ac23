from __future__ import annotations

import logging
import ssl

import pytest
import trio
from trio_websocket import ConnectionClosed, ConnectionRejected, ConnectionTimeout
from trio_websocket._impl import CloseReason
from wsproto.utilities import LocalProtocolError

from edge_agent.errors import ProtocolError, SinkUnavailable
from edge_agent.forward.sinks.agent.close_codes import most_telling, stopped, translated
from edge_agent.session import Stop
from tests.forward.support import NOW_NS, upstream

CONFIG = upstream("ws://hub:1/forward", timeout=30.0)


def said(cause: Exception | None) -> SinkUnavailable:
    return translated(cause, CONFIG, NOW_NS)


@pytest.mark.parametrize(
    "cause, text",
    [
        (None, "closed"),
        (OSError(111, "Connection refused"), "refused"),
        (ConnectionClosed(None), "closed"),
        (ConnectionClosed(CloseReason(1013, "store_full")), "1013 store_full"),
        (ConnectionClosed(CloseReason(1006, None)), "1006 ABNORMAL_CLOSURE"),
        (trio.TooSlowError(), "within 30 s"),
        (ConnectionTimeout(), "ConnectionTimeout"),
        (ProtocolError("bad_control", "not a message of the agent"), "not a message"),
        # Of what the library says to an answer that breaks off while it refuses it.
        (LocalProtocolError("Connection cannot be rejected in state X"), "speak WebSocket"),
    ],
)
def test_the_reason_is_told_and_the_wait_is_the_usual(cause: Exception | None, text: str) -> None:
    error = said(cause)
    assert text in str(error) and not error.slow and error.retry_after is None


def test_a_tls_failure_tells_what_openssl_says() -> None:
    broken = trio.BrokenResourceError()
    broken.__cause__ = ssl.SSLCertVerificationError("certificate has expired")
    assert "expired" in str(said(broken))


def test_what_is_translated_already_stays() -> None:
    error = SinkUnavailable("stop", retry_after=3)
    assert said(error) is error


@pytest.mark.parametrize(
    "status, slow", [(401, True), (403, True), (404, True), (302, False), (503, False)]
)
def test_an_answer_instead_of_an_upgrade(status: int, slow: bool) -> None:
    headers = ((b"Retry-After", b"17"),)
    error = said(ConnectionRejected(status, headers, b"  no token\n"))
    assert str(status) in str(error) and "no token" in str(error) and error.slow is slow
    assert error.retry_after == (17 if status == 503 else None)


def test_an_error_that_nobody_expected_is_reported_with_its_stack(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.ERROR):
        assert "division" in str(said(ZeroDivisionError("division by zero")))
    assert caplog.records[0].exc_info


def test_the_cause_is_told_and_not_its_consequences() -> None:
    cause = OSError("reset")
    inner = ExceptionGroup("", [ConnectionClosed(None), cause])
    assert most_telling(ExceptionGroup("", [trio.TooSlowError(), inner])) is cause


def test_a_stop_asks_for_its_time() -> None:
    error = stopped(Stop("store_full", 12.5, "the log main is full"))
    assert error.retry_after == 12.5 and "store_full the log main is full" in str(error)
    assert stopped(Stop("closing")).retry_after is None


@pytest.mark.parametrize(
    "code, slow", [("forbidden_source", True), ("forbidden_origin", True), ("store_full", False)]
)
def test_a_stop_that_a_person_has_to_do_something_about_is_a_slow_one(
    code: str, slow: bool
) -> None:
    error = stopped(Stop(code, 5.0, "x belongs to 'a'"))
    assert (error.slow, error.retry_after) == (slow, 5.0) and "belongs to 'a'" in str(error)
