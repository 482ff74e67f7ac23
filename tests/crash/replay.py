"""One image again on which something went wrong: ``python -m tests.crash.replay FILE``.

A recorded run cannot be had a second time, so what replays it holds it: the run, the moment of the
power cut, and which of the pending things survived. Before it is told, the image is made as much
like a complete one as still fails, so that what is named as missing is what matters.
"""

from __future__ import annotations

import pickle
import shutil
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from tests.crash.bench import make_bench, put
from tests.crash.explorer import Failure, Prepare
from tests.crash.history import History, Moment
from tests.crash.images import image_of
from tests.crash.inodes import Folder, Pending
from tests.crash.verdict import Verdict

#: Attempts to find a smaller description.
_ATTEMPTS_MAX: Final = 100
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


def smallest(moment: Moment, failure: Failure, fails: Callable[[list[Pending]], bool]) -> Failure:
    """The failure with as little missing as still fails."""
    pending = moment.disk.pending
    missing = [item.number for item in pending if item.number not in set(failure.chosen)]
    step, attempts = max(len(missing) // 2, 1), 0
    while missing and attempts < _ATTEMPTS_MAX:
        for begin in range(0, len(missing), step):
            fewer = missing[:begin] + missing[begin + step :]
            attempts += 1
            if fails([item for item in pending if item.number not in set(fewer)]):
                missing = fewer
                break
        else:
            if step == 1:
                break
            step = max(step // 2, 1)
    left = set(missing)
    return replace(failure, chosen=tuple(p.number for p in pending if p.number not in left))


def attempt_at(history: History, prepare: Prepare, failure: Failure) -> tuple[Failure, Verdict]:
    """Try the image again, then smaller ones; the smallest that fails, and what was wrong."""
    bench = make_bench()
    try:
        attempt = prepare(history, bench)
        moment = _moment(history, failure.moment)

        def tried(chosen: list[Pending]) -> Verdict:
            image = image_of(moment.disk.root, chosen)
            put(image, bench)
            return attempt(moment, image)

        chosen = set(failure.chosen)
        verdict = tried([item for item in moment.disk.pending if item.number in chosen])
        if verdict.problems:
            failure = smallest(moment, failure, lambda items: bool(tried(items).problems))
        return failure, verdict
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
    failure, verdict = attempt_at(kept.history, prepare, kept.failure)
    print(describe(kept.history, failure, Path(path)))
    print(*verdict.problems, sep="\n")
    return 1 if verdict.problems else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
