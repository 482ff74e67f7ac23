"""Every group of cases, each against one running agent; see the package."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.abuse import group
from tests.abuse.groups import GROUPS, SECURED
from tests.abuse.place import Place
from tests.abuse.secured import RATE, keys_of
from tests.end_to_end.support import AgentProcess

CONFIG = """
[listen]
handshake_timeout = "5s"
idle_timeout = "8s"
close_timeout = "1s"
[limits]
message_bytes = "256KiB"
record_bytes = "192KiB"
subscriptions = 5
[store]
size = "64MiB"
[log.main]
commit_interval = "20ms"
"""


@pytest.mark.parametrize("name", GROUPS)
async def test_every_case_gets_its_answer_and_nobody_else_notices(
    tmp_path: Path, name: str
) -> None:
    outcome = await tried(tmp_path / "1", name)
    if set(outcome.wrong) == {"the canary waited"}:
        # A pause of the machine's does not come again at the same place; one of the agent's does.
        outcome = await tried(tmp_path / "2", name)
    assert not outcome.wrong, "\n".join(f"{case}: {wrong}" for case, wrong in outcome.wrong.items())


async def tried(folder: Path, name: str) -> group.Outcome:
    place = Place(AgentProcess(folder, "agent", CONFIG))
    if name in SECURED:
        place.keys = keys_of(folder / "keys")
        place.agent.config = CONFIG.replace("[listen]", place.keys.listen).replace(
            "[limits]", f"[limits]\nrecords_per_second = {RATE}"
        )
    outcome = await group.run(place, GROUPS[name])
    print(f"{name}: {len(GROUPS[name].all)} cases; {outcome}")
    return outcome
