"""Units that the name of a field tells, such as ``temp_c`` or ``power_w``."""

from __future__ import annotations

#: The last part of a name, in lower case, to the unit.
UNITS = {
    "degc": "°C", "celsius": "°C", "fahrenheit": "°F", "kelvin": "K", "pct": "%", "percent": "%",
    "rh": "% RH", "w": "W", "watt": "W", "watts": "W", "kw": "kW", "wh": "Wh", "kwh": "kWh",
    "v": "V", "volt": "V", "volts": "V", "mv": "mV", "amps": "A", "ma": "mA", "hz": "Hz",
    "pa": "Pa", "hpa": "hPa", "kpa": "kPa", "mbar": "mbar", "bar": "bar", "lux": "lx", "lx": "lx",
    "ppm": "ppm", "ppb": "ppb", "us": "µs", "ms": "ms", "s": "s", "seconds": "s", "mm": "mm",
    "cm": "cm", "km": "km", "kmh": "km/h", "rpm": "rpm", "kg": "kg", "ml": "ml", "m3": "m³",
    "db": "dB", "dbm": "dBm", "deg": "°", "bytes": "B",
}  # fmt: skip
#: Letters that count things, too (``phase_a``): a unit only where one of these stands before.
HINTED = {
    "c": ("°C", ("temp", "dew")), "f": ("°F", ("temp", "dew")), "a": ("A", ("curr", "amp")),
    "m": ("m", ("height", "depth", "dist", "level", "alt")),
}  # fmt: skip


def named(field: str) -> tuple[str, str]:
    """What a field is called without its unit, and the unit; "" where the name tells none."""
    words, _, last = field.rpartition("_")
    key, before = last.lower(), words.lower()
    unit = UNITS.get(key, "")
    if key in HINTED and any(hint in before for hint in HINTED[key][1]):
        unit = HINTED[key][0]
    return (words, unit) if words and unit else (field, "")
