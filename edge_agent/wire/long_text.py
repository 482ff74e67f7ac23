"""A long text message, kept as the UTF-8 in which it came.

As a ``str`` it would take two or four bytes for each of its letters, where one of them needs as
many: one emoji in a mebibyte of text makes four of it. And whoever cuts it would have to encode it
again. Decoders of JSON take the bytes as they are.
"""

from __future__ import annotations

from codecs import getincrementaldecoder

from edge_agent.wire.reading_types import RUN_BYTES_MAX

_PIECE_BYTES = 64 * 1024
_decoder = getincrementaldecoder("utf-8")


class LongText(bytes):
    """Text, not msgpack, although it is bytes: longer than any message that is read quickly, or a
    line that is no UTF-8, which decoders refuse at the record where it is none.
    """

    __slots__ = ()


def text_of(payload: bytes) -> str | LongText:
    """What is said in a text message.

    Raises:
        UnicodeDecodeError: it is no UTF-8.
    """
    if len(payload) <= RUN_BYTES_MAX:
        return payload.decode()
    if payload.isascii():
        return LongText(payload)
    decode, view = _decoder().decode, memoryview(payload)
    try:
        for at in range(0, len(payload), _PIECE_BYTES):
            decode(view[at : at + _PIECE_BYTES], at + _PIECE_BYTES >= len(payload))
    except UnicodeDecodeError:
        # For the place within all of it.
        payload.decode()
        raise
    return LongText(payload)
