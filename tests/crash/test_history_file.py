"""No power cut costs history a record that it has told to have, or its figures; controls do."""

from __future__ import annotations

import pytest

from tests.crash.history_file import CONTROLS, recorded, tried

pytestmark = pytest.mark.needs("strace")


def test_after_any_cut_history_is_that_of_a_flush() -> None:
    tally = tried(recorded(), 300, seed=5)
    assert not tally.failures
    assert tally.states > 100 and tally.checked > 10_000


@pytest.mark.parametrize("broken", CONTROLS)
def test_what_a_flush_leaves_out_is_found(broken: str) -> None:
    assert tried(recorded(broken), 300, seed=5, until_failure=True).failures
