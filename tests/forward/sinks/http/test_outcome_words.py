"""What names and words stand for."""

from __future__ import annotations

import pytest

from edge_agent.forward.sinks.http.outcome_words import about_name, denies


@pytest.mark.parametrize("name", ["accepted", "successCount", "records_stored", "nInserted"])
def test_names_that_count_what_was_taken(name: str) -> None:
    assert about_name(name).is_count


@pytest.mark.parametrize("name", ["success_rate", "created_at", "insertedId", "x" * 100])
def test_names_that_only_look_like_a_count(name: str) -> None:
    assert not about_name(name).is_count


@pytest.mark.parametrize("text", ["no", "", "Not accepted", "3/5", "stored 3 of 5", "FAILED"])
def test_a_text_that_denies(text: str) -> None:
    assert denies(text)


@pytest.mark.parametrize("text", ["yes", "no errors", "5/5", "stored on 11/22/2026", "notable"])
def test_a_text_that_denies_nothing(text: str) -> None:
    assert not denies(text)
