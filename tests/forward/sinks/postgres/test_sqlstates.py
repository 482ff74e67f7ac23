from __future__ import annotations

import pytest

from edge_agent.errors import SinkRefused, SinkUnavailable
from edge_agent.forward.sinks.postgres.sqlstates import has_no_answer, sink_error


@pytest.mark.parametrize("state", ["22P05", "22003", "23514", "23503", "44000", "54000", "P0001"])
def test_what_is_about_the_content_is_refused(state: str) -> None:
    error = sink_error("no", state)
    assert isinstance(error, SinkRefused) and state in str(error) and error.obstacle == "there"


@pytest.mark.parametrize("state", ["42P01", "42501", "42703", "28P01", "3D000", "3F000", "23502"])
def test_what_a_person_has_to_change_is_tried_slowly(state: str) -> None:
    error = sink_error("no", state)
    assert isinstance(error, SinkUnavailable) and error.slow


@pytest.mark.parametrize(
    "state",
    ["08006", "40001", "40P01", "53100", "53300", "57P01", "57P03", "58030", "XX000", "25006"],
)
def test_what_passes_is_tried_again(state: str) -> None:
    error = sink_error("no", state)
    assert isinstance(error, SinkUnavailable) and not error.slow and not error.cut


def test_a_statement_that_took_too_long_is_tried_with_less() -> None:
    error = sink_error("canceling statement due to statement timeout", "57014")
    assert isinstance(error, SinkUnavailable) and error.cut


def test_a_connection_that_breaks_is_a_cut() -> None:
    error = sink_error("server closed the connection unexpectedly", "")
    assert isinstance(error, SinkUnavailable) and error.cut


@pytest.mark.parametrize("message, slow", [
    ('connection failed: FATAL:  password authentication failed for user "edge"', True),
    ('FATAL:  database "nope" does not exist', True),
    ("FATAL:  the database system is starting up", False),
    ("FATAL:  sorry, too many clients already", False),
    ("connection refused Is the server running on that host", False),
    ('server certificate for "a" does not match host name "b"', True),
])  # fmt: skip
def test_a_login_that_fails_is_told_apart_by_its_words(message: str, slow: bool) -> None:
    error = sink_error(message, "", log_in=True)
    assert isinstance(error, SinkUnavailable) and error.slow == slow and not error.cut


def test_a_server_without_tls_is_told_with_the_way_out() -> None:
    error = sink_error("server does not support SSL, but SSL was required", "", log_in=True)
    assert "sslmode=disable" in str(error)


@pytest.mark.parametrize("state, none", [
    ("42501", True), ("42883", True), ("22P02", True), ("P0001", True), ("57014", True),
    ("08006", False), ("40001", False), ("53300", False), ("55P03", False), ("57P01", False),
    ("", False),
])  # fmt: skip
def test_a_question_that_has_no_answer_is_told_from_one_that_can_be_asked_again(
    state: str, none: bool
) -> None:
    assert has_no_answer(state) is none
