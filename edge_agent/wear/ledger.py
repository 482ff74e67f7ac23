"""What was written over the store's life, as the small note that the store keeps of it.

The note is the state of a position that belongs to nobody: its floor stays 0, it is not configured
and so holds nothing back. A note that cannot be read begins a new one; it is worth no trouble.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import msgpack

#: The name of the position, and the log that it is in.
CONSUMER, LOG = "$wear", "main"


@dataclass(frozen=True, slots=True)
class Ledger:
    """Bytes noted so far: by the agent, and to the card by everybody while the agent ran.

    ``since_ns`` is when noting began, by a synced clock; 0 while none was. ``device`` names the
    card that this is about, "" where cards here do not say: a store that was copied or restored to
    another one begins a new note there.
    """

    own: int = 0
    card: int = 0
    since_ns: int = 0
    device: str = ""

    def add(self, own: int, card: int) -> Ledger:
        """With so much more."""
        return replace(self, own=self.own + own, card=self.card + card)

    def encode(self) -> bytes:
        """A msgpack array, which may grow at its end."""
        raw: bytes = msgpack.packb([self.own, self.card, self.since_ns, self.device])
        return raw

    @classmethod
    def decode(cls, raw: bytes | None, device: str = "") -> Ledger:
        """What was noted of ``device``; nothing where that cannot be read."""
        try:
            own, card, since_ns, noted, *_ = msgpack.unpackb(raw or b"\x90")
            if device and noted and noted != device:
                return cls(device=device)
            return cls(int(own), int(card), int(since_ns), device or str(noted))
        except (ValueError, TypeError, msgpack.UnpackException):
            return cls(device=device)
