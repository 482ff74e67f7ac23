"""Peers that were refused lately, why, and what helps: for the journal, status and doctor.

A peer that is refused before it is let in is otherwise seen by nobody but itself, and a sensor has
no screen. One entry for each address and reason; an entry of long ago gives way to a new one. The
journal gets a line for the first refusal of an entry and then after 1, 2, 4, … minutes, up to an
hour, so that a client that tries every second for a week leaves some 170 lines and not 600,000;
and at most `LINES_PER_MINUTE` in all, whatever a port scan brings.
"""

from __future__ import annotations

import logging
import re
import ssl
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from edge_agent.output.printable import printable

logger = logging.getLogger(__name__)

#: Entries that are kept.
KEPT = 64
LINES_PER_MINUTE = 10
SENTENCE_CHARACTERS_MAX = 300
#: What a token looks like (`edge_agent.security.tokens`, which is above this), or a part of one;
#: and one that came as a subprotocol, in base64.
_SECRET = re.compile(r"ea1_[\w-]+|(?<=edge-agent\.token\.)[\w-]+")
_PAUSE_S = 60.0
_PAUSE_MAX_S = 3600.0


@dataclass(frozen=True, slots=True)
class RefusedPeer:
    """One entry. ``port`` is the key of the port's address in the configuration; ``sentence`` says
    what was wrong and what helps; times are wall clock.
    """

    address: str
    port: str
    reason: str
    sentence: str
    count: int
    first_ns: int
    last_ns: int


@dataclass(slots=True)
class _Entry:
    sentence: str
    first_ns: int
    last_ns: int = 0
    count: int = 0
    told: int = 0
    next_line: float = 0.0
    pause_s: float = _PAUSE_S


class RefusedPeers:
    """See the module.

    Args:
        wall_ns: wall clock, nanoseconds since 1970.
        now: seconds, monotonic.
    """

    def __init__(self, wall_ns: Callable[[], int], now: Callable[[], float]) -> None:
        self._wall_ns = wall_ns
        self._now = now
        self._entries: OrderedDict[tuple[str, str, str], _Entry] = OrderedDict()
        self._minute = 0.0
        self._lines = self._held_back = 0

    def note(self, port: str, address: str, reason: str, sentence: str, times: int = 1) -> None:
        """Somebody at ``address`` was refused for ``reason``, one word, so many ``times``."""
        key = (port, address, reason)
        wall_ns = self._wall_ns()
        entry = self._entries.setdefault(key, _Entry("", wall_ns))
        # A wrong path today may be another one tomorrow.
        entry.sentence = _safe(sentence)
        entry.count += times
        entry.last_ns = wall_ns
        self._entries.move_to_end(key)
        if len(self._entries) > KEPT:
            self._entries.popitem(last=False)
        self._write(port, address, entry)

    def listing(self) -> tuple[RefusedPeer, ...]:
        """All entries, the latest first."""
        return tuple(
            RefusedPeer(
                address, port, reason, entry.sentence, entry.count, entry.first_ns, entry.last_ns
            )
            for (port, address, reason), entry in reversed(self._entries.items())
        )

    def _write(self, port: str, address: str, entry: _Entry) -> None:
        now = self._now()
        if entry.told and now < entry.next_line:
            return
        if now >= self._minute + 60.0:
            self._minute, self._lines = now, 0
        if self._lines >= LINES_PER_MINUTE:
            self._held_back += 1
            return
        self._lines += 1
        since = entry.count - entry.told
        times = f", {since} times since the last line" if since > 1 else ""
        others = f"; {self._held_back} more lines were held back" if self._held_back else ""
        logger.warning(
            "refused %s at %s%s: %s%s", address or "a peer", port, times, entry.sentence, others
        )
        self._held_back = 0
        entry.told, entry.next_line = entry.count, now + entry.pause_s
        entry.pause_s = min(entry.pause_s * 2, _PAUSE_MAX_S)


def tls_trouble(error: BaseException | None) -> tuple[str, str] | None:
    """Why TLS ended in ``error``, one word and a sentence; None where that was no error of
    TLS, as where the peer just left.
    """
    while error is not None and not isinstance(error, ssl.SSLError):
        error = error.__cause__
    if error is None or isinstance(error, ssl.SSLEOFError):
        return None
    reason = error.reason or "no reason"
    if reason == "HTTP_REQUEST":
        return "no_tls", "This port speaks TLS: wss:// or https://, not ws:// or http://."
    if "CERTIFICATE" in reason or "UNKNOWN_CA" in reason:
        return "tls", (
            f"The peer does not trust this agent's certificate ({reason}): give it ca.pem, which"
            " edge-agent tls init made, and let it use a name that the certificate is for."
        )
    return "tls", f"The TLS handshake failed ({reason}); TLS 1.2 or newer is spoken here."


def _safe(text: str) -> str:
    """What a peer said reaches a terminal and the journal: no control characters, no line ends, and
    no token, which may stand in a URL (``//token/SECRET/…``) or header that is nearly right.
    """
    return _SECRET.sub("…", printable(text))[:SENTENCE_CHARACTERS_MAX]
