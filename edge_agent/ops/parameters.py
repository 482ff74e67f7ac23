"""Parameters of a request: what a route does not know is refused, and not overlooked.

A misspelt ``steam=greenhouse/**`` that is ignored is answered with every stream, and whoever asked
takes that for the answer.
"""

from __future__ import annotations

from collections.abc import Iterable

from edge_agent.errors import ProtocolError


def refuse_unknown(given: Iterable[str], known: tuple[str, ...]) -> None:
    """Raise ProtocolError (``bad_query``), which names it, for a parameter that is not known."""
    for name in given:
        if name not in known:
            raise ProtocolError(
                "bad_query", f"{name[:60]}: no such parameter; there are {', '.join(known)}"
            )


def each_once(pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Name to value. Raises ProtocolError (``bad_query``) for a name that stands there twice: which
    of them is meant, only who asks can say.
    """
    found: dict[str, str] = {}
    for name, value in pairs:
        if name in found:
            raise ProtocolError("bad_query", f"{name[:60]}: given twice; one value each")
        found[name] = value
    return found


def whole_number(name: str, text: str | None, usual: int) -> int:
    """The parameter ``name`` as a number, ``usual`` where it is not given.

    Raises:
        ProtocolError: ``bad_query``; it is none.
    """
    if text is None:
        return usual
    if not (text.isascii() and text.isdigit() and len(text) < 20):
        raise ProtocolError("bad_query", f"{name}: expected a whole number, got {text[:60]!r}")
    return int(text)
