"""Reads frames of one kind and one length in a row all at once.

What a sensor sends most of the time: whole messages, each as long as the one before. Then the
headers stand at equal distances, and whether they are all the same is found by two slices; masks
and payloads come out of one `struct.iter_unpack`. It takes 0.25 µs for a message of 71 bytes, the
general loop of `frames` 0.38.

That headers look alike at these places proves that they are headers: the first one is, and each
says that the next one is there.
"""

from __future__ import annotations

from struct import iter_unpack

try:
    from websockets.speedups import apply_mask
except ImportError:  # Built without its C module.
    from websockets.utils import apply_mask

#: Fewer are not worth the look.
RUN_MIN = 8
_HEADER = 6  # two bytes and the mask, where a length below 126 stands in the second
_WHOLE_TEXT, _WHOLE_BINARY = 0x81, 0x82
_MASKED = 0x80
_SHORT_MAX = 125


def lift_run(data: bytes, at: int, limit: int, messages: list[str | bytes]) -> int:
    """Lift a run that begins at ``at`` into ``messages``; where it ends, ``at`` without one.

    Text that is not UTF-8 is no run: `frames` finds out which one it is.
    """
    if len(data) - at < RUN_MIN * _HEADER:
        return at
    first, second = data[at], data[at + 1]
    length = second - _MASKED
    stride = _HEADER + length
    if not 0 <= length <= min(_SHORT_MAX, limit) or len(data) - at < RUN_MIN * stride:
        return at
    if first not in (_WHOLE_TEXT, _WHOLE_BINARY):
        return at
    stop = at + (len(data) - at) // stride * stride
    count = min(_alike(data[at:stop:stride]), _alike(data[at + 1 : stop : stride]))
    if count < RUN_MIN:
        return at
    stop = at + count * stride
    frames = iter_unpack(f"2x4s{length}s", memoryview(data)[at:stop])
    payloads = [apply_mask(payload, mask) for mask, payload in frames]
    if first == _WHOLE_BINARY:
        messages += payloads
        return stop
    try:
        messages += list(map(bytes.decode, payloads))
    except UnicodeDecodeError:
        return at
    return stop


def _alike(heads: bytes) -> int:
    """How many bytes at the beginning are the same."""
    return len(heads) - len(heads.lstrip(heads[:1]))
