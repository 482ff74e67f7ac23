"""This module handles certificates that seem invalid only because the clock is not set.

A board that wakes in 1970 finds every certificate not yet valid, one that wakes in 2099 finds them
all expired. That is told as what it is, with the certificate's own dates, and the next attempt
comes as soon as the clock is set. For the dates a second connection is made that trusts the same
authorities for the same name, all but the time; nothing is sent over it.
"""

from __future__ import annotations

import ssl
from typing import Final
from urllib.parse import urlsplit

import trio

from edge_agent.config import Upstream
from edge_agent.errors import SinkUnavailable
from edge_agent.forward.credentials import client_context
from edge_agent.net.dial import Dial
from edge_agent.system.clock import Clock
from edge_agent.values.record import NANOSECONDS, format_time

#: OpenSSL's X509_V_FLAG_NO_CHECK_TIME; Python's ssl has no name for it.
_NO_CHECK_TIME: Final = ssl.VerifyFlags(0x200000)
#: OpenSSL's X509_V_ERR_CERT_NOT_YET_VALID and X509_V_ERR_CERT_HAS_EXPIRED.
_OUT_OF_DATE: Final = frozenset((9, 10))
#: A clock that becomes set is noticed this soon.
_LOOK_S = 1.0
_DATES_S = 10.0


def is_out_of_date(error: BaseException | None) -> bool:
    """Whether a certificate's dates are what an attempt failed by."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        if isinstance(error, ssl.SSLCertVerificationError) and error.verify_code in _OUT_OF_DATE:
            return True
        seen.add(id(error))
        error = error.__cause__ or error.__context__
    return False


async def waits_for_clock(
    error: BaseException | None, upstream: Upstream, clock: Clock, dial: Dial
) -> SinkUnavailable | None:
    """What to raise for ``error`` where the clock is to blame; None where it is not."""
    reading = clock.read()
    if reading.synced or not is_out_of_date(error):
        return None
    dates = await _dates(upstream, dial)
    return SinkUnavailable(
        f"waiting for the clock: the certificate is valid {dates}, the clock says"
        f" {format_time(reading.wall_ns)} and is not set",
        until_clock_set=True,
        obstacle="here",
    )


async def rest(clock: Clock, failure: Exception | None) -> None:
    """After a failure: until cancelled, or until the clock is set where that was all."""
    if not (isinstance(failure, SinkUnavailable) and failure.until_clock_set):
        await trio.sleep_forever()
    while not clock.read().synced:  # noqa: ASYNC110 - nobody tells us when a clock is set
        await trio.sleep(_LOOK_S)


async def _dates(upstream: Upstream, dial: Dial) -> str:
    parts = urlsplit(upstream.url)
    stream: trio.abc.Stream | None = None
    with trio.move_on_after(min(_DATES_S, upstream.timeout)):
        try:
            certificate = upstream.tls_certificate, upstream.tls_key
            context = await trio.to_thread.run_sync(client_context, upstream.ca_file, *certificate)
            context.verify_flags |= _NO_CHECK_TIME
            stream = await dial(parts.hostname or "", upstream.port, context)
            found = stream.getpeercert() if isinstance(stream, trio.SSLStream) else {}
            return f"from {_moment(found['notBefore'])} to {_moment(found['notAfter'])}"
        except (OSError, SinkUnavailable, trio.BrokenResourceError, KeyError, ValueError):
            pass  # Then without the dates; the next attempt tells what is wrong besides.
        finally:
            if stream is not None:
                await trio.aclose_forcefully(stream)
    return "at another time"


def _moment(text: str) -> str:
    return format_time(int(ssl.cert_time_to_seconds(text)) * NANOSECONDS)
