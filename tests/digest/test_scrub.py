from __future__ import annotations

from pathlib import Path

import lmdb
import trio
import trio.testing

from edge_agent.digest.file import HistoryFile
from edge_agent.digest.scrub import HistoryScrub
from edge_agent.history import FOLDER, keys
from edge_agent.history.keys import HOUR_NS, MINUTE_NS, RAW
from edge_agent.store import writing
from tests.digest.test_tools import owner
from tests.digest.whole_files import LIMIT_BYTES, MIDNIGHT_NS, flushed, run_of


async def test_a_damaged_part_is_told_once_however_often_it_is_passed(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    flushed(
        tmp_path,
        [
            [run_of("a", hour + 1, [MIDNIGHT_NS + hour * HOUR_NS + MINUTE_NS], t=1.5)]
            for hour in range(3)
        ],
    )
    key = keys.part_key(RAW, MIDNIGHT_NS // HOUR_NS + 1, 1, 0)
    with (
        lmdb.open(str(tmp_path / FOLDER), map_size=2**25, lib_version=0) as env,
        writing(env) as txn,
    ):
        txn.put(key, b"not what was written")
    file, _ = HistoryFile.open(tmp_path, LIMIT_BYTES, owner(tmp_path / FOLDER))
    scrub = HistoryScrub(interval_s=60.0)
    steps: list[list[bytes]] = []

    async def ask(step):  # type: ignore[no-untyped-def] # as the digester's thread
        after, damaged = step()
        steps.append(damaged)
        return after, damaged

    with trio.move_on_after(600):
        await scrub.run(file, ask)
    file.close()
    assert scrub.damaged == 1
    assert steps[0] == [key] and len(steps) > 5


async def test_it_is_off_where_the_interval_is_nothing(tmp_path: Path) -> None:
    flushed(tmp_path, [[run_of("a", 1, [MIDNIGHT_NS], t=1.5)]])
    file, _ = HistoryFile.open(tmp_path, LIMIT_BYTES, owner(tmp_path / FOLDER))
    await HistoryScrub(0.0).run(file, None)  # type: ignore[arg-type] # it never asks
    file.close()
