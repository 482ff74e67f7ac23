"""One hostile message costs an agent 6 MB at its peak; those that cost more are known by name."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.abuse.memory import MESSAGES, Message, peak_of

PEAK_BYTES = 6_000_000
#: What is to be brought below: megabytes, a little more than was measured, and where they go.
MORE = {
    # No bombs: each line is a text of its own beside the body, as all of them become one commit.
    "POST: 9,000 lines of text": 8,
    "POST: lines, and one letter of four bytes": 8,
}


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: message.name)
async def test_one_message_costs_little_memory(tmp_path: Path, message: Message) -> None:
    peak, _ = await peak_of(message, tmp_path)
    print(f"{message.name}: {peak / 1e6:.1f} MB")
    assert peak <= max(PEAK_BYTES, MORE.get(message.name, 0) * 1_000_000)


def test_only_messages_that_there_are_cost_more() -> None:
    assert set(MORE) <= {message.name for message in MESSAGES}
