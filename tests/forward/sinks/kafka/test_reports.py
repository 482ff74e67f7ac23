from __future__ import annotations

import pytest
from confluent_kafka import KafkaError

from edge_agent.errors import SinkRefused, SinkUnavailable
from edge_agent.forward.sinks.kafka.reports import Reports, refusal_of, said


def problem(name: str, reason: str = "why") -> KafkaError:
    return KafkaError(getattr(KafkaError, name), reason)


def test_each_message_is_counted_once_by_what_became_of_it() -> None:
    reports = Reports()
    reports.trouble(problem("_ALL_BROKERS_DOWN"))
    assert reports.in_words() == "no broker can be reached"
    reports.count(None, object())
    assert reports.in_words() == ""
    reports.count(problem("REQUEST_TIMED_OUT"), object())
    reports.count(problem("_TRANSPORT"), object())
    assert (reports.stored, reports.failed, reports.known) == (1, 2, 3)
    assert reports.problem == problem("REQUEST_TIMED_OUT")


@pytest.mark.parametrize("name", ["MSG_SIZE_TOO_LARGE", "RECORD_LIST_TOO_LARGE", "INVALID_RECORD"])
def test_what_is_about_the_record_is_a_refusal(name: str) -> None:
    assert isinstance(refusal_of(problem(name)), SinkRefused)


@pytest.mark.parametrize(
    "name, slow",
    [
        ("TOPIC_AUTHORIZATION_FAILED", True), ("_UNKNOWN_TOPIC", True),
        ("UNKNOWN_TOPIC_OR_PART", True), ("NOT_ENOUGH_REPLICAS", False), ("_TRANSPORT", False),
    ],
)  # fmt: skip
def test_what_is_not_keeps_everything(name: str, slow: bool) -> None:
    error = refusal_of(problem(name))
    assert isinstance(error, SinkUnavailable) and error.slow is slow


def test_a_wrong_password_is_told_at_once_and_a_broken_line_is_not() -> None:
    reports = Reports()
    reports.trouble(problem("_TRANSPORT", "connection refused"))
    assert reports.needs_a_person() is None
    assert reports.in_words() == "Kafka says: connection refused (_TRANSPORT)"
    reports.trouble(problem("_AUTHENTICATION", "SASL authentication error"))
    error = reports.needs_a_person()
    assert error is not None and error.slow and "SASL" in str(error)


def test_what_a_broker_says_stays_on_its_line() -> None:
    assert said(problem("_FAIL", "a\nb\x1b")) == "Kafka says: a\\nb\\x1b (_FAIL)"
