"""Plans that once failed, shrunk, and what each found; ``make test`` runs every one.

They are kept as plans and not as seeds: what is drawn from a seed changes whenever ``plan.py``
does. What was mended has its own test beside the module, too.
"""

from __future__ import annotations

from typing import Final

from tests.model.outages.plan import Fault, Plan, Sensor, Shape

_THREE: Final = (
    Sensor("s0", "agent", "disk", "json"),
    Sensor("s1", "agent", "memory", "json"),
    Sensor("s2", "agent", "numbered", "msgpack"),
)

REGRESSIONS: Final[dict[str, Plan]] = {
    "a message larger than its log's share was refused for ever by a log that was empty, and one"
    " of many small blocks was reckoned with a page for each": Plan(
        1,
        Shape(("agent",), True, False, "refuse", _THREE, 200),
        (Fault(3.0, "cut", "agent>middle", 200.0),),
    ),
    "a batch that was refused while the clock was not set, and is sent again when it is, has to be"
    " the same bytes under its key": Plan(
        1,
        Shape(("agent",), False, True, "", _THREE, 0),
        (
            Fault(5.0, "cut", "agent>hub", 300.0),
            Fault(6.0, "power-cut", "agent", 160.0),
            Fault(40.0, "http", "http", 300.0, 10.0),
        ),
    ),
}
