"""No hostile message costs an agent more than 6 MB at its peak."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.abuse.memory import MESSAGES, Message, peak_of

PEAK_BYTES = 6_000_000


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: message.name)
async def test_one_message_costs_little_memory(tmp_path: Path, message: Message) -> None:
    peak, _ = await peak_of(message, tmp_path)
    print(f"{message.name}: {peak / 1e6:.1f} MB")
    assert peak <= PEAK_BYTES
