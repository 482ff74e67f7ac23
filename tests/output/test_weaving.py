"""Rows of text from columns: what one row after the other would be."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from edge_agent.output.weaving import HOLE, Words, weave

WORDS = {7: b"7", -3: b'"x"', 2**63: b""}


@given(
    st.lists(
        st.tuples(st.integers(0, 1), st.sampled_from(list(WORDS)), st.sampled_from([b"1", b"%b"])),
        min_size=1,
        max_size=9,
    ),
    st.lists(st.tuples(*[st.sampled_from([b"", b"{", b"%d,"])] * 3), min_size=2, max_size=2),
)
def test_rows_are_their_template_with_every_hole_filled(
    rows: list[tuple[int, int, bytes]], between: list[tuple[bytes, ...]]
) -> None:
    which, keys, texts = (list(column) for column in zip(*rows, strict=True))
    woven = weave([HOLE.join(one) for one in between], which, [Words(WORDS, keys), texts])
    assert woven == [
        a + WORDS[key] + b + text + c
        for (a, b, c), key, text in zip(map(between.__getitem__, which), keys, texts, strict=True)
    ]
