"""One hostile message costs an agent 6 MB at its peak; those that cost more are known by name."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.abuse.memory import MESSAGES, Message, peak_of

PEAK_BYTES = 6_000_000
#: What is to be brought below: megabytes, a little more than was measured, and where they go.
MORE = {
    # Python holds all of a text with four bytes a letter where one of them needs as many.
    "JSON: a megabyte and one letter of four bytes": 10,
    # The text, its bytes and its sections, and then one record as objects, 240 or 56 bytes for
    # each map or array of 7 or 3; a third of it is history, which decodes it once more.
    "JSON: 16 fields of 8,000 maps of one key": 9,
    "JSON: a field of 10,000 arrays, 16 times": 9,
}


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: message.name)
async def test_one_message_costs_little_memory(tmp_path: Path, message: Message) -> None:
    peak, _ = await peak_of(message, tmp_path)
    print(f"{message.name}: {peak / 1e6:.1f} MB")
    assert peak <= max(PEAK_BYTES, MORE.get(message.name, 0) * 1_000_000)


def test_only_messages_that_there_are_cost_more() -> None:
    assert set(MORE) <= {message.name for message in MESSAGES}
