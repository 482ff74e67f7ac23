from __future__ import annotations

import pytest

from edge_agent.errors import SinkRefused, SinkUnavailable
from edge_agent.forward.answers import ANSWER_BYTES_MAX, Answer, judge, retry_after_s
from tests.forward.support import NOW_NS

KEY = "5f0c/main/1-9"


def verdict(
    status: int, body: bytes = b"", kind: str = "", *, complete: bool = True, **headers: str
) -> object:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    if kind:
        named["content-type"] = kind
    return judge(Answer(status, named, body, complete), KEY, NOW_NS)


ACKNOWLEDGED = [
    (200, b"", ""),
    (201, b"", "application/json"),
    (202, b"", ""),
    (204, b"", ""),
    (200, b'{"taken": 9}', "application/json"),
    (200, b"[]", "application/json; charset=utf-8"),
    (200, b"null", "Application/Problem+JSON"),
    (200, b"", "text/plain"),
    (200, b"ok", "text/plain"),
    (200, b"ok\n", ""),
    (200, b"OK", "text/html; charset=utf-8"),
    (200, b'"ok"', "application/json"),
    (200, b'\xef\xbb\xbf{"taken": 9}', "application/json"),
    (200, b"\xff\xfe{\0}\0", "application/json"),
    (200, b'{"taken": 9}', "text/plain"),
    (200, b'{"taken": 9}', ""),
    (200, b'{"n": 1}\n{"n": 2}\n', "application/x-ndjson"),
    (207, b'{"results": [{"status": 201}]}', "application/json"),
    (207, b"", ""),
]
NOT_ACKNOWLEDGED = [
    (200, b"<html>Please log in</html>", "text/html"),
    (200, b"", "text/html; charset=utf-8"),
    (204, b"", "text/html"),
    (200, b"<html>", "application/json"),
    (200, b"{", "application/json"),
    (200, b"\xff", "application/json"),
    (200, b"<p>ok</p>", "text/plain"),
    (200, b"please log in", "text/plain"),
    (200, b"{}", "text/html"),
    (200, b"{}", "text/json-ish"),
    (203, b"", ""),
    (205, b"", ""),
    (206, b"{}", "application/json"),
    (207, b"<multistatus/>", "application/xml"),
    (208, b"", ""),
]


@pytest.mark.parametrize("status, body, kind", ACKNOWLEDGED)
def test_what_acknowledges(status: int, body: bytes, kind: str) -> None:
    assert verdict(status, body, kind) is None


@pytest.mark.parametrize("status, body, kind", NOT_ACKNOWLEDGED)
def test_what_never_acknowledges(status: int, body: bytes, kind: str) -> None:
    error = verdict(status, body, kind)
    assert isinstance(error, SinkUnavailable) and not error.slow
    assert str(status) in str(error)


def test_an_answer_that_is_too_long_to_read_does_not_acknowledge() -> None:
    body = b"1" * ANSWER_BYTES_MAX
    assert isinstance(verdict(200, body, "application/json", complete=False), SinkUnavailable)


def test_the_echoed_key_is_certain_whatever_the_body() -> None:
    assert verdict(200, b"<html>", "text/html", idempotency_key=KEY) is None
    assert verdict(200, b"", "", idempotency_key=f'"{KEY}"') is None


def test_another_key_is_no_acknowledgement_whatever_the_body() -> None:
    assert isinstance(verdict(204, idempotency_key="5f0c/main/1-8"), SinkUnavailable)
    assert isinstance(verdict(203, idempotency_key=KEY), SinkUnavailable)


@pytest.mark.parametrize("status, code", [(400, "refused"), (413, "too_big"), (422, "refused")])
def test_only_three_answers_are_about_the_content(status: int, code: str) -> None:
    error = verdict(status, b"field t:\n\x00 too hot", "text/plain")
    assert isinstance(error, SinkRefused) and error.code == code
    assert "field t: too hot" in str(error)


@pytest.mark.parametrize(
    "status", [401, 402, 403, 404, 405, 406, 407, 409, 410, 411, 415, 418, 451]
)
def test_every_other_4xx_keeps_everything_and_retries_slowly(status: int) -> None:
    error = verdict(status)
    assert isinstance(error, SinkUnavailable) and error.slow and error.retry_after is None


@pytest.mark.parametrize(
    "status", [301, 302, 303, 307, 308, 408, 425, 500, 502, 503, 504, 511, 599]
)
def test_what_may_pass_by_itself_backs_off(status: int) -> None:
    error = verdict(status)
    assert isinstance(error, SinkUnavailable) and not error.slow and error.retry_after is None


def test_a_redirect_says_where_to_and_is_not_followed() -> None:
    assert "http://portal/" in str(verdict(302, location="http://portal/"))


@pytest.mark.parametrize("status", [429, 503])
def test_an_upstream_may_ask_for_time(status: int) -> None:
    error = verdict(status, retry_after="7")
    assert isinstance(error, SinkUnavailable) and error.retry_after == 7 and not error.slow


def test_too_many_requests_without_a_time_backs_off_as_usual() -> None:
    error = verdict(429)
    assert isinstance(error, SinkUnavailable) and error.retry_after is None and not error.slow


@pytest.mark.parametrize(
    "value, seconds",
    [
        (None, None),
        ("0", 0),
        (" 120 ", 120),
        ("soon", None),
        ("-3", None),
        ("1.5", None),
        ("9" * 400, 999_999_999),
        ("Sun, 22 Nov 2026 10:01:30 GMT", 90),
        ("Sun, 22 Nov 2026 10:01:30 -0000", 90),
        ("Sun, 22 Nov 2026 09:00:00 GMT", 0),
        ("Sun, 99 Nov 2026 09:00:00 GMT", None),
    ],
)
def test_retry_after_is_seconds_or_a_date(value: str | None, seconds: float | None) -> None:
    assert retry_after_s(value, NOW_NS) == seconds
