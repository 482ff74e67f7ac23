"""This module judges an HTTP answer: acknowledged, not now, or refused for its content. Pure.

**Acknowledged** is only what cannot well be anybody else's word. Between an edge device and its
upstream there are captive portals, proxies and parking pages, and they answer 200. ``accept`` of
the upstream's configuration says what counts; by default (``auto``):

1. The status is 200, 201, 202, 204 or 207. (203 says that somebody on the way changed the answer.)
2. If the answer has an ``Idempotency-Key`` header, it must be the one that was sent; then whatever
   is not JSON counts, too. An upstream that echoes the key makes it certain.
3. Otherwise the body must be empty and not claim to be text for people; or be a word such as
   ``ok``; or be JSON, declared as such, or an object or a list under no type or as plain text. A
   byte order mark before it is passed over.
4. JSON is looked into (`edge_agent.forward.sinks.http.record_outcomes`): an answer that says of
   itself, or of some of the records, that it failed does not acknowledge, whatever the status.

``json`` wants a JSON body, ``text:WORD`` this text and nothing else, ``status`` any 2xx, and looks
into nothing. HTML, other text and what was cut short never acknowledge but for ``status``.

**Refused** is 400, 413 and 422: about the content of this very batch, or about the records that
the body names. **Everything else** keeps everything: 429 and 503 with ``Retry-After`` wait as long
as they ask; 5xx, redirects, 408 and 425 back off (redirects are not followed: the batch and the
token would go to wherever somebody on the way points); other 4xx need a person, so they are retried
at the slow pace.

`judge` is total: for any status, headers and body it gives a verdict and raises nothing. It is what
a fuzzer drives.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_tz
from typing import Final, NamedTuple

import msgspec

from edge_agent.config import shown_url
from edge_agent.errors import SinkError, SinkRefused, SinkUnavailable
from edge_agent.forward.sinks.http.record_outcomes import Kind, by_status, outcome_of, printable
from edge_agent.values.record import NANOSECONDS, datetime_to_ns

#: An answer's body beyond this is not read. Whoever says more is sent smaller batches.
ANSWER_BYTES_MAX: Final = 16 * 1024 * 1024
#: What is read at any rate, several times a record; and for each record, several times a result.
_ANSWER_BYTES: Final = 256 * 1024
_RESULT_BYTES: Final = 1600
#: An answer that is no 2xx is read for a sentence only.
REFUSAL_BYTES_MAX: Final = 64 * 1024
_ACKNOWLEDGING: Final = frozenset((200, 201, 202, 204, 207))
#: Whole answers in text that say yes: Logstash's is ok.
_YES: Final = frozenset(("accepted", "created", "done", "ok", "received", "success", "true"))
_YES_BYTES_MAX: Final = 32
_FOR_PEOPLE: Final = frozenset(("text/html", "application/xhtml+xml"))
#: Under these an object or a list may be JSON that nobody declared.
_UNDECLARED: Final = frozenset(
    ("", "text/plain", "text/json", "text/javascript", "application/octet-stream")
)
_LINES: Final = frozenset(("application/x-ndjson", "application/ndjson", "application/jsonl"))
#: Longer than any date that a Retry-After may hold.
_DATE_MAX: Final = 64
#: Two days more than the longest wait (`backoff.RETRY_AFTER_MAX`) would already be no wait.
_WAIT_MAX_S: Final = 999_999_999.0


class Sent(NamedTuple):
    """A record of the batch, in the order of the body."""

    seq: int
    id: str


@dataclass(frozen=True, slots=True)
class HttpAnswer:
    """An HTTP answer; header names in lower case, the body as far as it was read."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    complete: bool = True
    #: Bytes that its body may have, also decompressed.
    most: int = ANSWER_BYTES_MAX


def answer_bytes_max(records: int, sent: int) -> int:
    """What is read of an answer to a body of so many records and ``sent`` bytes, which some repeat:
    so a small batch cannot bring megabytes.
    """
    return min(ANSWER_BYTES_MAX, _ANSWER_BYTES + records * _RESULT_BYTES + 2 * sent)


def judge(
    answer: HttpAnswer, key: str, wall_ns: int, accept: str = "auto", sent: Sequence[Sent] = ()
) -> SinkError | None:
    """None: acknowledged. Otherwise what to raise.

    Args:
        answer: what came.
        key: the ``Idempotency-Key`` that was sent.
        wall_ns: the wall clock, for a ``Retry-After`` that names a date.
        accept: the upstream's.
        sent: the records of the batch, for answers that speak of each.
    """
    status = answer.status
    if 200 <= status < 300:
        return None if accept == "status" else _judge_2xx(answer, key, wall_ns, accept, sent)
    if 300 <= status < 400:
        where = shown_url(answer.headers.get("location", ""))
        return SinkUnavailable(f"HTTP {status}: redirected to {where}, not followed")
    whose = " from the proxy (it wants proxy_auth_file, or another one)" if status == 407 else ""
    message = f"HTTP {status}{whose}: {_excerpt(answer)}"
    return _error(by_status(status), message, answer, wall_ns)


def retry_after_s(value: str | None, wall_ns: int) -> float | None:
    """Seconds that a ``Retry-After`` header asks for, by number or HTTP date; None without one.

    Whatever the text is. A date is measured on our wall clock; on a board whose clock is not set
    the wait is bounded by `backoff.RETRY_AFTER_MAX` like any other.
    """
    text = (value or "").strip()
    if text.isascii() and text.isdigit():
        return float(text[:9])
    if not text or len(text) > _DATE_MAX:
        return None
    try:
        parsed = parsedate_tz(text)
        if parsed is None:
            return None
        moment = datetime(*parsed[:6], tzinfo=UTC)
    except (ValueError, OverflowError, TypeError, IndexError):
        # Of a date that is none: the standard library's reader knows many ways to fail.
        return None
    # RFC 9110 dates are in GMT; other zones are seconds that may be beyond any date.
    wait = (datetime_to_ns(moment) - wall_ns) / NANOSECONDS - (parsed[9] or 0)
    return min(max(0.0, wait), _WAIT_MAX_S)


def _error(
    kind: Kind, message: str, answer: HttpAnswer, wall_ns: int, *, halve: bool = False
) -> SinkError:
    """What to raise where a status, the answer's own or one in its body, is of this ``kind``."""
    if kind == "refused":
        return SinkRefused(message, "too_big" if answer.status == 413 else "refused")
    retry_after = None
    if answer.status in (429, 503) or 200 <= answer.status < 300:
        retry_after = retry_after_s(answer.headers.get("retry-after"), wall_ns)
    return SinkUnavailable(message, retry_after=retry_after, slow=kind == "person", halve=halve)


def _judge_2xx(
    answer: HttpAnswer, key: str, wall_ns: int, accept: str, sent: Sequence[Sent]
) -> SinkError | None:
    status = answer.status
    if status not in _ACKNOWLEDGING:
        return _no(answer, "that is no acknowledgement")
    echo = answer.headers.get("idempotency-key")
    is_certain = echo is not None and echo.strip().strip('"') == key
    if echo is not None and not is_certain:
        return _no(answer, "it echoes another Idempotency-Key")
    kind = answer.headers.get("content-type", "").partition(";")[0].strip().lower()
    body, is_whole = _plain(answer)
    if accept.startswith("text:"):
        wanted = accept.removeprefix("text:").strip()
        is_wanted = is_whole and body == wanted.encode()
        return None if is_wanted else _no(answer, f"its body is not the text {wanted!r}")
    if not body and is_whole and accept != "json":
        if kind in _FOR_PEOPLE and not is_certain:
            return _no(answer, f"it claims to be {printable(kind)}")
        return None
    if accept == "auto" and is_whole and _says_yes(body):
        return None
    if not _may_be_json(kind, body, accept, is_certain=is_certain):
        if is_certain and accept != "json":
            return None
        what = printable(kind) or "of no declared type"
        return _no(answer, f"its body is {what}, not the upstream's word (a portal?)")
    if not is_whole:
        message = f"its body is cut short or longer than {answer.most:,} bytes"
        return _no(answer, message, halve=len(sent) > 1)
    return _judge_json(answer, body, kind, wall_ns, sent)


def _judge_json(
    answer: HttpAnswer, body: bytes, kind: str, wall_ns: int, sent: Sequence[Sent]
) -> SinkError | None:
    if kind in _LINES:
        body = b"[" + b",".join(line for line in body.splitlines() if line.strip()) + b"]"
    try:
        outcome = outcome_of(body, [one.id for one in sent])
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return _no(answer, "its body is not the JSON that it claims to be")
    verdict = outcome.verdict
    if outcome.refused:
        count = len(outcome.refused)
        message = f"HTTP {answer.status}, which refuses {count} of {len(sent)} records"
        named = {sent[index].seq: reason for index, reason in outcome.refused.items()}
        return SinkRefused(f"{message}: {verdict.reason}", records=named)
    if verdict.kind == "taken":
        return None
    if verdict.kind == "unclear":
        message = f"its body says that something failed: {verdict.reason}"
        return _no(answer, message, halve=len(sent) > 1)
    message = f"HTTP {answer.status}, but by its body: {verdict.reason}"
    halve = verdict.kind == "later" and len(sent) > 1
    return _error(verdict.kind, message, answer, wall_ns, halve=halve)


def _no(answer: HttpAnswer, why: str, *, halve: bool = False) -> SinkUnavailable:
    hint = 'if it is the upstream\'s word, set accept ("status": the status alone counts)'
    return SinkUnavailable(f"HTTP {answer.status}, but {why}; {hint}", halve=halve)


def _says_yes(body: bytes) -> bool:
    if len(body) > _YES_BYTES_MAX:
        return False
    return body.decode("utf-8", "replace").strip("\"'.! \t\r\n").lower() in _YES


def _may_be_json(kind: str, body: bytes, accept: str, *, is_certain: bool) -> bool:
    """Whether the body claims to be JSON, or is taken for it."""
    if accept == "json" or kind == "application/json" or kind in _LINES:
        return True
    if kind.startswith("application/") and kind.endswith("+json"):
        return True
    return (kind in _UNDECLARED or is_certain) and body[:1] in (b"{", b"[")


def _plain(answer: HttpAnswer) -> tuple[bytes, bool]:
    """The body without compression, byte order mark and spaces around it; whether it is whole."""
    body, is_whole = answer.body, answer.complete
    encoding = answer.headers.get("content-encoding", "").strip().lower()
    if body and encoding in ("gzip", "x-gzip", "deflate"):
        # We asked for none; who compresses nevertheless must not fill the memory with it.
        unpacker = zlib.decompressobj(wbits=47)
        try:
            body = unpacker.decompress(body, answer.most)
        except zlib.error:
            return b"", False
        is_whole = is_whole and unpacker.eof
    if body[:2] in (b"\xff\xfe", b"\xfe\xff"):
        body = body.decode("utf-16", "replace").encode()
    return body.removeprefix(b"\xef\xbb\xbf").strip(), is_whole


def _excerpt(answer: HttpAnswer) -> str:
    text = _plain(answer)[0][:800].decode("utf-8", "replace")
    return printable(text) or "no reason given"
