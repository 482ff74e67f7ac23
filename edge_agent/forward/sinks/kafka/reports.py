"""Brokers' reports of messages as errors of ours. Pure, but for the names of codes.

A report comes for every message: stored by all replicas in sync, or why not.
"""

from __future__ import annotations

from typing import Final, Protocol

from edge_agent.errors import SinkError, SinkRefused, SinkUnavailable
from edge_agent.output.printable import printable

#: About the record.
_TOO_BIG: Final = frozenset(("MSG_SIZE_TOO_LARGE", "RECORD_LIST_TOO_LARGE"))
_REFUSED: Final = frozenset(("INVALID_RECORD", "INVALID_MSG"))
#: Until a person changes something, there or here.
_FOR_A_PERSON: Final = frozenset(
    (
        *("_AUTHENTICATION", "SASL_AUTHENTICATION_FAILED", "UNSUPPORTED_SASL_MECHANISM"),
        *("TOPIC_AUTHORIZATION_FAILED", "CLUSTER_AUTHORIZATION_FAILED", "POLICY_VIOLATION"),
        *("UNKNOWN_TOPIC_OR_PART", "_UNKNOWN_TOPIC", "_UNKNOWN_PARTITION", "TOPIC_EXCEPTION"),
        *("_SSL", "SECURITY_DISABLED", "UNSUPPORTED_COMPRESSION_TYPE"),
    )
)


class KafkaProblem(Protocol):
    """``confluent_kafka.KafkaError``, as far as it is needed."""

    def name(self) -> str:
        """The code as a word."""

    def str(self) -> str:
        """A sentence."""


class Reports:
    """Of one batch.

    Attributes:
        stored, failed: messages.
        problem: the first failure.
        troubles: what is wrong with the connection, by its kind, since a message was stored.
        heard: how often something was.
    """

    def __init__(self, troubles: dict[str, KafkaProblem] | None = None) -> None:
        self.stored = self.failed = self.heard = 0
        self.problem: KafkaProblem | None = None
        self.troubles = troubles if troubles is not None else {}

    @property
    def known(self) -> int:
        """Messages of which something is known."""
        return self.stored + self.failed

    def count(self, problem: KafkaProblem | None, _: object) -> None:
        """A message is stored, or why not."""
        if problem is None:
            self.stored += 1
            if self.troubles:
                self.troubles.clear()
        else:
            self.failed += 1
            self.problem = self.problem or problem

    def trouble(self, problem: KafkaProblem) -> None:
        """Something is wrong with the connection; librdkafka goes on trying."""
        self.heard += 1
        self.troubles[problem.name()] = problem

    @property
    def all_down(self) -> bool:
        """Whether no broker can be reached at this moment."""
        return "_ALL_BROKERS_DOWN" in self.troubles

    def needs_a_person(self) -> SinkUnavailable | None:
        """What to raise where trying goes on in vain."""
        for name, problem in self.troubles.items():
            if name in _FOR_A_PERSON:
                return SinkUnavailable(said(problem), slow=True, obstacle="there")
        return None

    def in_words(self) -> str:
        """What is wrong with the connection, for people; "" where nothing is known."""
        known = [p for name, p in self.troubles.items() if name != "_ALL_BROKERS_DOWN"]
        return said(known[-1]) if known else "no broker can be reached" * self.all_down


def refusal_of(problem: KafkaProblem) -> SinkError:
    """What to raise for a message that was not stored."""
    name = problem.name()
    if name in _TOO_BIG:
        return SinkRefused(said(problem), "too_big")
    if name in _REFUSED:
        return SinkRefused(said(problem))
    return SinkUnavailable(said(problem), slow=name in _FOR_A_PERSON, obstacle="there")


def said(problem: KafkaProblem) -> str:
    """One sentence."""
    return f"Kafka says: {printable(problem.str()[:300])} ({problem.name()})"
