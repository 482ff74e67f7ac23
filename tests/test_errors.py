from __future__ import annotations

import inspect

import pytest

from edge_agent import errors
from edge_agent.errors import (
    ConfigError,
    EdgeAgentError,
    ProtocolError,
    SinkError,
    SinkRefused,
    SinkUnavailable,
    StoreDamaged,
    StoreError,
    StoreFailed,
    StoreFull,
    StoreLocked,
    StoreTooNew,
)


def test_every_exception_is_in_the_one_tree_and_in_the_map_at_the_top() -> None:
    classes = [item for _, item in inspect.getmembers(errors, inspect.isclass)]
    for item in classes:
        if item.__module__ == errors.__name__:
            assert issubclass(item, EdgeAgentError)
            assert errors.__doc__ is not None
            assert item.__name__ in errors.__doc__


@pytest.mark.parametrize("kind", [StoreFull, StoreLocked, StoreTooNew, StoreDamaged, StoreFailed])
def test_store_errors_can_be_caught_together(kind: type[Exception]) -> None:
    assert issubclass(kind, StoreError)
    assert not issubclass(kind, SinkError)


def test_a_config_error_is_one_sentence_with_place_expectation_and_finding() -> None:
    error = ConfigError("edge-agent.toml: log.main.keep", 'a duration such as "30d"', "30")
    assert str(error) == (
        'edge-agent.toml: log.main.keep: expected a duration such as "30d", found 30'
    )
    assert error.where == "edge-agent.toml: log.main.keep"
    assert (error.expected, error.found) == ('a duration such as "30d"', "30")


def test_exit_codes_tell_systemd_what_a_restart_can_mend() -> None:
    # 78 (EX_CONFIG) stands in RestartPreventExitStatus of the unit; 75 (EX_TEMPFAIL) does not.
    assert ConfigError.exit_code == StoreTooNew.exit_code == 78
    assert StoreLocked.exit_code == 75
    assert EdgeAgentError.exit_code == StoreFailed.exit_code == 1


def test_a_protocol_error_carries_what_the_peer_is_told() -> None:
    error = ProtocolError("bad_time", "time: expected seconds", 1007)
    assert (error.code, error.message, error.close_code) == (
        "bad_time", "time: expected seconds", 1007,
    )  # fmt: skip
    assert ProtocolError("bad_time", "x").close_code is None


def test_refusals_carry_what_the_caller_needs_for_its_next_step() -> None:
    assert StoreFull("full").retry_after == 10.0
    assert StoreFull("full", 2.5).retry_after == 2.5
    assert StoreLocked("held", 4711).pid == 4711
    unavailable = SinkUnavailable("503", retry_after=7, slow=True)
    assert (unavailable.retry_after, unavailable.slow) == (7, True)
    assert SinkUnavailable("gone").retry_after is None
    assert SinkRefused("no").code == "refused"
