"""Sizes, durations, shares and addresses as people write them, and back.

A number without a unit is refused: ``keep = 30`` means nothing to whoever reads it next year.
What `format_duration` and its siblings print, the parsers read back to the same value.
"""

from __future__ import annotations

import re

from edge_agent.config.quantities import Duration, Share, Size
from edge_agent.net.access import is_address

#: What stands behind a number, and how much it is: of durations, and of sizes.
SECONDS = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}
BYTES = {
    "B": 1, "kB": 1000, "KB": 1000, "MB": 1000**2, "GB": 1000**3, "TB": 1000**4,
    "KiB": 1024, "MiB": 1024**2, "GiB": 1024**3, "TiB": 1024**4,
}  # fmt: skip
_QUANTITY = re.compile(r"(\d+(?:\.\d+)?)\s*([A-Za-z%]+)")
_TEN_YEARS_S = 10 * 366 * 86_400.0

#: What each kind of value looks like, for messages.
EXPECTED = {
    Duration: 'a duration with a unit, such as "250ms", "1s", "10m", "12h" or "30d"',
    Size: 'a size with a unit, such as "64KiB", "256MiB" or "1GiB"',
    Share: 'a share such as "70%"',
}


def parse_duration(text: object) -> Duration:
    """``"250ms"`` to seconds. Raises ValueError with what was expected."""
    number, factor = _split(text, SECONDS, Duration)
    if number * factor > _TEN_YEARS_S:
        raise ValueError("a duration of at most ten years")
    return Duration(round(number * factor, 6))


def parse_size(text: object) -> Size:
    """``"64KiB"`` to bytes. Raises ValueError with what was expected."""
    number, factor = _split(text, BYTES, Size)
    if number * factor >= 2**63:
        raise ValueError("a size below 8 EiB")
    return Size(round(number * factor))


def parse_limit(text: str) -> tuple[int, Duration]:
    """``"10/1m"`` to (10, 60 s). Raises ValueError with what was expected."""
    count, slash, duration = text.partition("/")
    try:
        each = parse_duration(duration)
    except ValueError:
        each = Duration(0)
    if not slash or not re.fullmatch(r"[0-9]{1,9}", count) or int(count) < 1 or each < 0.001:
        raise ValueError('so many records in a duration, such as "10/1m"')
    return int(count), each


def parse_share(text: object) -> Share:
    """``"70%"`` to 0.7. Raises ValueError with what was expected."""
    number, _ = _split(text, {"%": 1}, Share)
    if number > 100:
        raise ValueError('a share of at most "100%"')
    return Share(number / 100)


def parse_address(text: str) -> tuple[str, int]:
    """``"127.0.0.1:8765"``, ``"[::1]:8765"``, ``"localhost:0"`` or ``":8765"`` to (host, port).

    An empty host means every address of the machine. Raises ValueError with what was expected.
    """
    expected = 'HOST:PORT, such as "127.0.0.1:8765" or "[::1]:8765"'
    host, colon, digits = text.rpartition(":")
    if not colon or not re.fullmatch(r"[0-9]{1,5}", digits) or int(digits) > 65535:
        raise ValueError(expected)
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
        if not is_address(host):
            raise ValueError(expected)
    elif ":" in host or not re.fullmatch(r"[A-Za-z0-9._-]*", host):
        raise ValueError(expected)
    return host, int(digits)


def format_address(host: str, port: int) -> str:
    """``HOST:PORT``, an IPv6 address in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def format_duration(seconds: float) -> str:
    """Seconds in the largest unit that leaves a whole number: ``"90s"``, ``"30d"``."""
    micros = round(seconds * 1_000_000)
    for unit in ("d", "h", "m", "s", "ms"):
        factor = round(SECONDS[unit] * 1_000_000)
        if micros % factor == 0 and (micros or unit == "s"):
            return f"{micros // factor}{unit}"
    return f"{micros}us"


def format_size(size: int) -> str:
    """Bytes in the largest unit that leaves a whole number: ``"64KiB"``, ``"500MB"``."""
    for unit in ("TiB", "GiB", "TB", "GB", "MiB", "MB", "KiB", "kB"):
        if size and size % BYTES[unit] == 0:
            return f"{size // BYTES[unit]}{unit}"
    return f"{size}B"


def format_share(share: float) -> str:
    """A share in percent: ``"70%"``, ``"2.5%"``."""
    return f"{round(share * 100, 6):g}%"


def _split(
    text: object, units: dict[str, float] | dict[str, int], kind: type
) -> tuple[float, float]:
    match = _QUANTITY.fullmatch(text.strip()) if isinstance(text, str) else None
    if match is None or match[2] not in units:
        raise ValueError(EXPECTED[kind])
    return float(match[1]), units[match[2]]
