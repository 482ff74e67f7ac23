"""A TLS socket that `benchmarks.pump` can use: what it sends in one call, and reads to the end."""

from __future__ import annotations

import ssl
from collections.abc import Iterable
from typing import Any

_RECORD_BYTES = 16 * 1024


class PumpedSocket(ssl.SSLSocket):
    """Not ready is a BlockingIOError, as with a plain socket; what OpenSSL has read is given out
    whole, since no poll tells of it.
    """

    def sendmsg(self, buffers: Iterable[Any], *_more: Any) -> int:  # type: ignore[override] # no flags
        """Send the parts as one."""
        try:
            return self.send(b"".join(buffers))
        except (ssl.SSLWantWriteError, ssl.SSLWantReadError) as error:
            raise BlockingIOError from error

    def recv(self, buflen: int = _RECORD_BYTES, flags: int = 0) -> bytes:
        """What has come, to the end of what was decrypted."""
        try:
            found = super().recv(buflen, flags)
            while self.pending():
                found += super().recv(buflen, flags)
        except ssl.SSLWantReadError as error:
            raise BlockingIOError from error
        return found


def pumped_context(ca_file: str) -> ssl.SSLContext:
    """A client's context that trusts one authority and makes such sockets."""
    context = ssl.create_default_context(cafile=ca_file)
    context.sslsocket_class = PumpedSocket
    return context
