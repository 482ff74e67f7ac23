"""Units of measure, and how a number in one becomes a number in another.

Factors are fractions, so that a conversion rounds once: 212 F are 100.0 C, and 3 x 0.1 is 0.3.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from fractions import Fraction
from math import lcm

Change = Callable[[float], float]
"""A number to another one."""

#: By kind of quantity: unit to (factor, what is added), which give the kind's first unit.
_LINEAR: dict[str, dict[str, str]] = {
    "pressure": {
        "Pa": "1", "hPa": "100", "mbar": "100", "kPa": "1000", "bar": "100000", "MPa": "1000000",
        "psi": "6894.757293168", "atm": "101325", "mmHg": "133.322387415", "inHg": "3386.389",
    },
    "speed": {
        "m/s": "1", "km/h": "5/18", "mph": "0.44704", "kn": "463/900", "ft/s": "0.3048",
    },
    "energy": {
        "J": "1", "kJ": "1000", "MJ": "1000000", "Wh": "3600", "kWh": "3600000",
        "MWh": "3600000000", "Wmin": "60", "cal": "4.184", "kcal": "4184",
    },
    "power": {"W": "1", "mW": "0.001", "kW": "1000", "MW": "1000000", "hp": "745.69987158227022"},
    "length": {
        "m": "1", "mm": "0.001", "cm": "0.01", "km": "1000", "in": "0.0254", "ft": "0.3048",
        "yd": "0.9144", "mi": "1609.344",
    },
    "mass": {"kg": "1", "g": "0.001", "mg": "0.000001", "t": "1000", "lb": "0.45359237",
             "oz": "0.028349523125"},
    "volume": {"l": "1", "ml": "0.001", "m3": "1000", "gal": "3.785411784"},
    "time": {"s": "1", "ms": "0.001", "min": "60", "h": "3600", "d": "86400"},
    "voltage": {"V": "1", "mV": "0.001", "kV": "1000"},
    "current": {"A": "1", "mA": "0.001", "uA": "0.000001"},
    "frequency": {"Hz": "1", "kHz": "1000", "MHz": "1000000", "rpm": "1/60"},
    "angle": {"deg": "1", "turn": "360"},
    "share": {"1": "1", "%": "0.01", "ppm": "0.000001"},
}  # fmt: skip
_KINDS: dict[str, dict[str, tuple[Fraction, Fraction]]] = {
    kind: {unit: (Fraction(factor), Fraction(0)) for unit, factor in units.items()}
    for kind, units in _LINEAR.items()
} | {
    "temperature": {
        "K": (Fraction(1), Fraction(0)),
        "C": (Fraction(1), Fraction("273.15")),
        "F": (Fraction(5, 9), Fraction("459.67") * Fraction(5, 9)),
    }
}
#: Every unit that is known.
UNITS = tuple(unit for kind in _KINDS.values() for unit in kind)
#: Whole numbers below this are doubles without loss.
_EXACT = 2**53
_BETWEEN = re.compile(r"\s*(\S+?)\s*->\s*(\S+)\s*")


def between(text: str) -> Change:
    """What ``"F->C"`` does to a number.

    Raises:
        ValueError: a unit is not known, or the two are of different kinds; says what was expected.
    """
    match = _BETWEEN.fullmatch(text)
    if match is None:
        raise ValueError('two units such as "F->C"')
    units = [unit.removeprefix("°") for unit in match.groups()]
    for kind in _KINDS.values():
        if units[0] in kind:
            if units[1] not in kind:
                raise ValueError(f"after {units[0]} one of {', '.join(kind)}")
            (factor, added), (other, other_added) = kind[units[0]], kind[units[1]]
            return _linear(factor / other, (added - other_added) / other)
    raise ValueError(f"units among {', '.join(UNITS)}")


def scaled(scale: float, offset: float) -> Change:
    """Times ``scale``, plus ``offset``, both meant as they are written: 0.1 is a tenth."""
    return _linear(Fraction(repr(scale)), Fraction(repr(offset)))


def _linear(factor: Fraction, added: Fraction) -> Change:
    # Over one denominator: (x * a + b) / c. Its division is the only step that rounds.
    c = lcm(factor.denominator, added.denominator)
    a, b = int(factor * c), int(added * c)
    if max(abs(a), abs(b), c) >= _EXACT:
        scale, offset = float(factor), float(added)
        return lambda value: value * scale + offset
    return lambda value: (value * a + b) / c
