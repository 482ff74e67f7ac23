"""No power cut costs history a record that it has told to have, or its figures; controls do."""

from __future__ import annotations

import pytest

from tests.crash.history_file import CONTROLS, prove
from tests.crash.proof import Scale

pytestmark = pytest.mark.needs("strace")


def test_after_any_cut_history_is_that_of_a_flush_and_what_a_flush_leaves_out_is_found() -> None:
    outcome = prove(Scale(300), seed=5)
    assert outcome.ok, outcome.failures
    states, *_ = outcome.lines[-1].split()
    assert int(states) > 100 and f"{len(CONTROLS)} of {len(CONTROLS)} controls" in outcome.lines[-1]
