"""Errors that ended an attempt: in words, and so that nothing of the attempt lives on in them."""

from __future__ import annotations

import ssl
from typing import TypeVar

from edge_agent.net.dial import tls_reason
from edge_agent.output.printable import why, without_repr

#: How it begins what it says, and what is told instead.
_OF_H11 = {
    "peer closed connection without": "the answer was cut off",
    "can't handle event type ConnectionClosed": "it hung up before it answered",
    "Received server _SWITCH_": "what answers there changes to another protocol",
    "Receive buffer too long": "the head of the answer is too long",
}

Failed = TypeVar("Failed", bound=Exception)


def http_words(said: str) -> str:
    """What h11 says of an answer, for people: its own words are for who wrote the other side."""
    said = without_repr(said)
    told = next((told for begin, told in _OF_H11.items() if said.startswith(begin)), "")
    return told or f"what answers there does not speak HTTP/1.1: {said}"


def innermost(error: BaseException) -> str:
    """What the innermost cause says, or an error of the network: that one has its words already."""
    said = type(error).__name__
    cause: BaseException | None = error
    while cause is not None:
        said = (tls_reason(cause) if isinstance(cause, ssl.SSLError) else why(cause)) or said
        if isinstance(cause, OSError):
            break
        if isinstance(cause, BaseExceptionGroup):
            # Several addresses were tried; one reason tells enough.
            cause = cause.exceptions[0]
        else:
            cause = cause.__cause__ or cause.__context__
    return said


def leaves(group: ExceptionGroup[Failed]) -> list[Failed]:
    """Everything that failed together, however deep; each `without_frames`."""
    found: list[Failed] = []
    for error in group.exceptions:
        if isinstance(error, ExceptionGroup):
            found += leaves(error)
        else:
            found.append(without_frames(error))
    return found


def without_frames(error: Failed) -> Failed:
    """``error``, and what caused it, without tracebacks.

    A function that raises an error of a variable of its own makes a circle: the error's traceback
    holds the function's frame, which holds the error, and a batch of megabytes beside it, until
    Python looks for circles. Whoever has told the error needs no traceback any more.
    """
    link: BaseException | None = error
    while link is not None and link.__traceback__ is not None:
        link.__traceback__ = None
        link = link.__cause__ or link.__context__
    return error
