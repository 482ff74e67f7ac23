from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_agent.errors import ProtocolError
from edge_agent.values.stream_names import (
    STREAM_BYTES_MAX,
    compile_pattern,
    compile_patterns,
    source_problem,
    stream_problem,
)

GOOD = ["a", "greenhouse/bme280", "A-Z_0.9/x", "a/b/c/d", "..a", "x" * STREAM_BYTES_MAX]
BAD = [
    "", "/a", "a/", "a//b", "a b", "ä", "a/../b", ".", "..", "a/.", "a*", "a\n", "a\x00", "$x",
    "$agents/1/x", "a/$", "x" * (STREAM_BYTES_MAX + 1),
]  # fmt: skip


@pytest.mark.parametrize("name", GOOD)
def test_senders_may_use(name: str) -> None:
    assert stream_problem(name) is None
    assert source_problem(name) is None


@pytest.mark.parametrize("name", BAD)
def test_senders_may_not_use(name: str) -> None:
    assert stream_problem(name)
    assert source_problem(name)


def test_the_problem_is_a_sentence_about_what_was_found() -> None:
    assert stream_problem("$x") == "'$x': names that begin with '$' are the agent's own"
    assert "1 to 200 bytes, this has 0" in str(stream_problem(""))
    assert "source name" in str(source_problem("a b"))


MATCHES = [
    ("a", "a"), ("a/b", "a/b"), ("*", "a"), ("a/*", "a/b"), ("*/b", "a/b"), ("a/*/c", "a/b/c"),
    ("**", "a"), ("**", "a/b/c"), ("a/**", "a"), ("a/**", "a/b"), ("a/**", "a/b/c"),
    ("**/c", "c"), ("**/c", "a/c"), ("**/c", "a/b/c"), ("a/**/c", "a/c"), ("a/**/c", "a/b/b/c"),
    ("a/**/*", "a/b"), ("a/**/*", "a/b/c"), ("*/**", "a"), ("**/**", "a/b"), ("a.b", "a.b"),
    ("$agents/**", "$agents"), ("$agents/**", "$agents/7/x"), ("$x", "$x"),
    ("$agents/*/x", "$agents/7/x"),
]  # fmt: skip
MISSES = [
    ("a", "b"), ("a", "a/b"), ("a", "A"), ("*", "a/b"), ("a/*", "a"), ("a/*", "a/b/c"),
    ("a/**", "ab"), ("a/**", "b/a"), ("**/c", "a/c/d"), ("**/c", "ac"), ("a/**/c", "ac"),
    ("a/**/*", "a"), ("a.b", "axb"), ("*", "$x"), ("**", "$x"), ("**", "$agents/7/x"),
    ("**/x", "$agents/x"), ("*/x", "$agents/x"), ("a", "a\n"),
]  # fmt: skip


@pytest.mark.parametrize("pattern, name", MATCHES)
def test_pattern_matches(pattern: str, name: str) -> None:
    assert compile_pattern(pattern)(name)


@pytest.mark.parametrize("pattern, name", MISSES)
def test_pattern_does_not_match(pattern: str, name: str) -> None:
    assert not compile_pattern(pattern)(name)


@pytest.mark.parametrize("pattern", ["", "a*", "a/b*", "***", "a//b", "/a", "a b", "a/", "x" * 201])
def test_bad_patterns_are_refused_with_a_sentence(pattern: str) -> None:
    with pytest.raises(ProtocolError) as caught:
        compile_pattern(pattern)
    assert caught.value.code == "bad_pattern"
    assert repr(pattern) in caught.value.message


def test_several_patterns_mean_any_of_them_and_none_means_nothing() -> None:
    matches = compile_patterns(["a/*", "b"])
    assert matches("a/x")
    assert matches("b")
    assert not matches("c")
    assert not compile_patterns([])("a")


def _obvious(pattern: list[str], name: list[str]) -> bool:
    """The definition, written down without any thought of speed."""
    if not pattern:
        return not name
    if pattern[0] == "**":
        own = bool(name) and name[0].startswith("$")
        return _obvious(pattern[1:], name) or (
            bool(name) and not own and _obvious(pattern, name[1:])
        )
    if not name:
        return False
    if pattern[0] == "*":
        return not name[0].startswith("$") and _obvious(pattern[1:], name[1:])
    return pattern[0] == name[0] and _obvious(pattern[1:], name[1:])


_part = st.sampled_from(["a", "b", "ab"])


@settings(max_examples=300)
@given(
    pattern=st.lists(_part | st.sampled_from(["*", "**"]), min_size=1, max_size=5),
    name=st.lists(_part, min_size=1, max_size=5),
    own=st.booleans(),
)
def test_patterns_mean_what_the_definition_says(
    pattern: list[str], name: list[str], own: bool
) -> None:
    if own:
        name = ["$" + name[0], *name[1:]]
    matches = compile_pattern("/".join(pattern))
    assert matches("/".join(name)) == _obvious(pattern, name)


def test_a_pattern_made_to_be_slow_is_not() -> None:
    # Forty wildcards over a name that almost matches: with backtracking, longer than the sun lasts.
    pattern = "/".join(["**", "a"] * 39) + "/b"
    assert len(pattern) <= STREAM_BYTES_MAX
    matches = compile_pattern(pattern)
    # Processor time, as a busy machine may stop between the two looks at the clock.
    started = time.process_time()
    assert not matches("/".join(["a"] * 100))
    assert time.process_time() - started < 0.5
