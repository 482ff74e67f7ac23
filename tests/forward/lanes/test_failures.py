"""Nothing of an attempt lives on in the error that ended it."""

from __future__ import annotations

import gc
import ssl
from collections.abc import Iterator

import pytest
import trio

from edge_agent.forward.lanes.failures import innermost, leaves, without_frames


def test_the_innermost_cause_is_told_and_of_tls_where_to_look() -> None:
    alert = ssl.SSLError(1, "[SSL: X] tlsv13 alert certificate required (_ssl.c:2580)")
    alert.reason = "TLSV13_ALERT_CERTIFICATE_REQUIRED"
    told = "tlsv13 alert certificate required: it wants one of ours (tls_certificate and tls_key)"
    for cause in (alert, ExceptionGroup("several", [alert])):
        error = trio.BrokenResourceError()
        error.__cause__ = cause
        assert innermost(error) == told
    error.__cause__ = ConnectionResetError(104, "Connection reset by peer")
    assert innermost(error) == "Connection reset by peer"
    assert innermost(trio.ClosedResourceError()) == "ClosedResourceError"


class Held:
    """What a function holds while it fails."""


@pytest.fixture
def no_search_for_circles() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def fails(with_cause: bool) -> None:
    held = Held()
    error = ValueError(str(held))
    if not with_cause:
        raise error
    try:
        raise OSError("below")
    except OSError as cause:
        raise error from cause


def are_held() -> bool:
    return any(isinstance(one, Held) for one in gc.get_objects())


@pytest.mark.parametrize("with_cause", [False, True])
def test_what_a_function_held_is_gone_once_its_error_was_told(
    with_cause: bool, no_search_for_circles: None
) -> None:
    try:
        fails(with_cause)
    except ValueError as error:
        without_frames(error)
    assert not are_held()


def test_so_it_is_of_all_that_failed_together(no_search_for_circles: None) -> None:
    failures: list[ValueError] = []
    try:
        try:
            fails(True)
        except ValueError as error:
            raise ExceptionGroup("", [ExceptionGroup("", [error])]) from None
    except* ValueError as group:
        failures += leaves(group)
    assert len(failures) == 1 and not are_held()
    assert isinstance(failures[0].__cause__, OSError)
