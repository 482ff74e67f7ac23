"""What an HTTP answer means: acknowledged, not now, or refused for its content. Pure.

**Acknowledged** is only what cannot well be anybody else's word. Between an edge device and its
upstream there are captive portals, proxies and parking pages, and they answer 200. The rule:

1. The status is 200, 201, 202 or 204. (203 says that somebody on the way changed the answer.)
2. If the answer has an ``Idempotency-Key`` header, it must be the one that was sent; then that
   is all that is asked, whatever the body. An upstream that echoes the key makes it certain.
3. Otherwise the body must be empty and not claim to be text for people; or be declared as JSON
   (``application/json``, ``application/…+json``) and parse as JSON, in at most 64 KiB.

HTML, plain text, anything undeclared or cut short never acknowledges. The sense of the JSON is
not looked at: an upstream that took only a part has to say so by its status.

**Refused** is 400, 413 and 422: about the content of this very batch. **Everything else** keeps
everything: 429 and 503 with ``Retry-After`` wait as long as they ask; 5xx, redirects, 408 and 425
back off (redirects are not followed: the batch and the token would go to wherever somebody on the
way points); other 4xx need a person, so they are retried at the slow pace.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Final

import msgspec

from edge_agent.errors import SinkError, SinkRefused, SinkUnavailable
from edge_agent.record import NANOSECONDS, datetime_to_ns

#: An answer's body beyond this is not read.
ANSWER_BYTES_MAX: Final = 64 * 1024
_ACKNOWLEDGING: Final = frozenset((200, 201, 202, 204))
_REFUSING: Final = frozenset((400, 413, 422))
#: The server gave up waiting for the request, or does not want it this early: nobody's mistake.
_PASSING: Final = frozenset((408, 425))
_REFUSAL_SHOWN = 200


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP answer; header names in lower case, the body as far as it was read."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    complete: bool = True


def judge(answer: Answer, key: str, wall_ns: int) -> SinkError | None:
    """None: acknowledged. Otherwise what to raise.

    Args:
        answer: what came.
        key: the ``Idempotency-Key`` that was sent.
        wall_ns: the wall clock, for a ``Retry-After`` that names a date.
    """
    status = answer.status
    if status in _REFUSING:
        code = "too_big" if status == 413 else "refused"
        return SinkRefused(f"HTTP {status}: {_excerpt(answer)}", code)
    if 200 <= status < 300:
        problem = _not_theirs(answer, key)
        return None if problem is None else SinkUnavailable(f"HTTP {status}, but {problem}")
    retry_after = None
    if status in (429, 503):
        retry_after = retry_after_s(answer.headers.get("retry-after"), wall_ns)
    if 300 <= status < 400:
        where = answer.headers.get("location", "nowhere")[:_REFUSAL_SHOWN]
        return SinkUnavailable(f"HTTP {status}: redirected to {where}, not followed")
    slow = 400 <= status < 500 and status not in _PASSING and status != 429
    return SinkUnavailable(f"HTTP {status}: {_excerpt(answer)}", retry_after=retry_after, slow=slow)


def retry_after_s(value: str | None, wall_ns: int) -> float | None:
    """Seconds that a ``Retry-After`` header asks for, by number or HTTP date; None without one.

    A date is measured on our wall clock; on a board whose clock is not set the wait is bounded
    by `backoff.RETRY_AFTER_MAX_S` like any other.
    """
    if value is None:
        return None
    text = value.strip()
    if text.isascii() and text.isdigit():
        return float(text[:9])
    try:
        moment = parsedate_to_datetime(text)
    except ValueError:
        return None
    if moment.tzinfo is None:
        # RFC 9110 dates are in GMT; "-0000" makes Python return one without a zone.
        moment = moment.replace(tzinfo=UTC)
    return max(0.0, (datetime_to_ns(moment) - wall_ns) / NANOSECONDS)


def _not_theirs(answer: Answer, key: str) -> str | None:
    """Why a 2xx answer is not taken as the upstream's word; None where it is."""
    if answer.status not in _ACKNOWLEDGING:
        return "that is no acknowledgement"
    echo = answer.headers.get("idempotency-key")
    if echo is not None:
        return None if echo.strip().strip('"') == key else "it echoes another Idempotency-Key"
    kind = answer.headers.get("content-type", "").partition(";")[0].strip().lower()
    if not answer.body and answer.complete:
        return f"it claims to be {kind}" if kind in ("text/html", "application/xhtml+xml") else None
    if kind != "application/json" and not (
        kind.startswith("application/") and kind.endswith("+json")
    ):
        return f"its body is {kind or 'of no declared type'}, not the upstream's JSON (a portal?)"
    if not answer.complete:
        return f"its body is cut short or longer than {ANSWER_BYTES_MAX} bytes"
    try:
        msgspec.json.decode(answer.body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return "its body is not the JSON that it claims to be"
    return None


def _excerpt(answer: Answer) -> str:
    text = answer.body[: _REFUSAL_SHOWN * 4].decode("utf-8", "replace")
    shown = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return shown[:_REFUSAL_SHOWN] or "no reason given"
