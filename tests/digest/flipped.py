"""Opens history's file with bytes flipped, many times; run as a process that may not survive it."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

from edge_agent.digest import HistoryFile, HistoryOwner, HistoryWriter
from edge_agent.history import FOLDER
from tests.digest.support import DAY, FOREVER, MIB, everything, made

TRIES = 60


def try_all(path: Path, used: int, store_id: str, epoch: str) -> None:
    """Whatever flips: the file is opened or set aside, read and written."""
    sound = (path / "before").read_bytes()
    chance, aside = random.Random(7), 0
    for _ in range(TRIES):
        raw = bytearray(sound)
        for _ in range(chance.randint(1, 3)):
            raw[chance.randrange(used)] ^= chance.randint(1, 255)
        shutil.rmtree(path / FOLDER)
        (path / FOLDER).mkdir()
        (path / FOLDER / "data.mdb").write_bytes(raw)
        file, told = HistoryFile.open(path, 64 * MIB, HistoryOwner(store_id, epoch))
        aside += bool(told)
        everything(file)
        file.write(made(HistoryWriter(file, FOREVER), DAY + 10**15))
        everything(file)
        file.close()
    assert 0 < aside < TRIES
