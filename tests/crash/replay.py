"""One image again on which something went wrong: ``python -m tests.crash.replay FILE``.

A recorded run cannot be had a second time, so what replays it holds it: the run, the moment of the
power cut, and which of the pending things survived.
"""

from __future__ import annotations

import pickle
import shutil
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.crash.bench import make_bench, put
from tests.crash.explorer import Failure, Prepare
from tests.crash.history import History, Moment
from tests.crash.images import image_of
from tests.crash.inodes import Folder, Pending
from tests.crash.verdict import Verdict

_SHOWN: Final = 12


@dataclass(frozen=True, slots=True)
class Kept:
    """What a file for replaying holds; ``way`` is a name in `attempts`."""

    history: History
    way: str
    failure: Failure


def keep(history: History, way: str, failure: Failure) -> Path:
    """Write what replays ``failure``; where."""
    folder = Path(tempfile.mkdtemp(prefix="crash-states-failed-"))
    path = folder / f"{way}-{failure.moment}.replay"
    path.write_bytes(pickle.dumps(Kept(history, way, failure)))
    return path


def describe(history: History, failure: Failure, path: Path) -> str:
    """One sentence: when, what was missing, what went wrong, and what shows it again."""
    moment = _moment(history, failure.moment)
    chosen = set(failure.chosen)
    missing = [item for item in moment.disk.pending if item.number not in chosen]
    names = ", ".join(_name(item) for item in missing[:_SHOWN])
    more = f" and {len(missing) - _SHOWN} more" if len(missing) > _SHOWN else ""
    return (
        f"at event {failure.moment} ({failure.phase}), of {failure.pending} pending"
        f" {len(missing)} missing ({names}{more}): {'; '.join(failure.problems[:3])};"
        f" replay: python -m tests.crash.replay {path}"
    )


def attempt_at(history: History, prepare: Prepare, failure: Failure) -> Verdict:
    """Try the image again."""
    bench = make_bench()
    try:
        attempt = prepare(history, bench)
        moment = _moment(history, failure.moment)
        chosen = set(failure.chosen)
        image = image_of(
            moment.disk.root, [item for item in moment.disk.pending if item.number in chosen]
        )
        put(image, bench)
        return attempt(moment, image)
    finally:
        shutil.rmtree(bench, ignore_errors=True)


def _moment(history: History, index: int) -> Moment:
    for moment in history.moments():
        if moment.index == index:
            return moment
    raise AssertionError(f"there is no event {index}")


def _name(item: Pending) -> str:
    if isinstance(item.owner, Folder):
        return f"the name {item.name}"
    what = f"unit {item.index}" if item.what == "unit" else f"size {item.index}"
    return f"{what} of file {item.owner.number}"


def main(path: str) -> int:
    from tests.crash import attempts

    kept = pickle.loads(Path(path).read_bytes())
    prepare = {"stores": attempts.stores, "starts": attempts.starts, "torn": attempts.torn}[
        kept.way
    ]()
    verdict = attempt_at(kept.history, prepare, kept.failure)
    print(describe(kept.history, kept.failure, Path(path)))
    print(*verdict.problems, sep="\n")
    return 1 if verdict.problems else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
