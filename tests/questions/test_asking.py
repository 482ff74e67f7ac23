"""Questions to the process that answers: started, ended, killed, slow, many at once."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
import trio

from edge_agent.digest import digester
from edge_agent.errors import ProtocolError, StoreFailed
from edge_agent.history import FOLDER
from edge_agent.questions import asking
from edge_agent.seal import KeyRing
from tests.asked import Asked, asked, children
from tests.patience import PATIENCE_S, eventually

COUNT = {"step": "all", "aggregate": "count", "fields": "n"}


async def count(history: Asked, **given: object) -> int:
    rows = (await history.json(**(COUNT | given)))["rows"]
    return sum(row[-1] for row in rows)


async def _refused_as_ended(history: Asked) -> None:
    with pytest.raises(StoreFailed, match=r"ended .*; ask again"):
        await count(history)


async def _refused_as_busy(history: Asked) -> None:
    with pytest.raises(ProtocolError, match="other questions are being answered") as told:
        await count(history)
    assert told.value.code == "busy"


def _is_gone(pid: int) -> bool:
    return pid not in children()


def _is_dead(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


async def test_the_process_is_started_by_the_first_question_and_answers_more(
    tmp_path: Path,
) -> None:
    before = children()
    async with asked(tmp_path) as history:
        await history.keep("a/b", [{"n": n} for n in range(10)])
        assert history.pid == 0
        assert await count(history) == 10
        pid = history.pid
        await history.keep("a/b", [{"n": n} for n in range(5)])
        assert await count(history) == 15
        await history.flush()
        assert await count(history) == 15, "from the file now"
        await history.keep("a/b", [{"n": n} for n in range(5)])
        assert await count(history) == 20, "file and memory, without a seam"
        assert history.pid == pid
    assert children() == before, "none is left, and no zombie"


async def test_an_idle_process_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asking, "IDLE_S", 0.05)
    before = children()
    async with asked(tmp_path) as history:
        await history.keep("a/b", [{"n": 1}])
        assert await count(history) == 1
        await eventually(lambda: history.pid == 0 and children() == before, "it is gone")
        assert await count(history) == 1, "the next question starts another"


async def test_a_killed_process_is_told_and_the_next_question_is_answered(tmp_path: Path) -> None:
    async with asked(tmp_path) as history:
        await history.keep("a/b", [{"n": 1}])
        assert await count(history) == 1
        first = history.pid
        history.kill()
        await eventually(lambda: _is_dead(first), "it is dead")
        assert await count(history) == 1, "between questions nobody notices"
        second = history.pid
        os.kill(second, signal.SIGSTOP)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_refused_as_ended, history)
            await trio.sleep(0.05)
            history.kill()
        assert history.pid == 0
        assert await count(history) == 1
        await eventually(lambda: not {first, second} & set(children()), "both are buried")


async def test_a_cancelled_question_ends_the_process(tmp_path: Path) -> None:
    async with asked(tmp_path) as history:
        await history.keep("a/b", [{"n": 1}])
        assert await count(history) == 1
        pid = history.pid
        os.kill(pid, signal.SIGSTOP)
        with trio.move_on_after(0.05) as scope:
            await count(history)
        assert scope.cancelled_caught
        await eventually(lambda: pid not in children(), "it is buried")
        assert await count(history) == 1


async def test_a_slow_question_is_stopped_and_told_what_to_do(tmp_path: Path) -> None:
    async with asked(tmp_path, seconds=0.0) as history:
        await history.keep("a/b", [{"n": 1}])
        with pytest.raises(ProtocolError, match=r"limits\.query_seconds\); ask for less") as told:
            await count(history)
        assert told.value.code == "too_long"
        assert history.pid, "the process said so itself and can go on"


async def test_a_process_that_says_nothing_is_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asking, "_GRACE_S", 0.1)
    async with asked(tmp_path, seconds=PATIENCE_S) as history:
        await history.keep("a/b", [{"n": 1}])
        await count(history)
        history.asker._seconds = 0.0
        os.kill(history.pid, signal.SIGSTOP)
        with pytest.raises(ProtocolError, match="ask for less time"):
            await count(history)
        history.asker._seconds = PATIENCE_S
        assert await count(history) == 1


async def test_ten_questions_at_once_are_all_answered(tmp_path: Path) -> None:
    async with asked(tmp_path) as history:
        await history.keep("a/b", [{"n": n} for n in range(1000)])
        found: list[int] = []

        async def one() -> None:
            found.append(await count(history))

        async with trio.open_nursery() as nursery:
            for _ in range(10):
                nursery.start_soon(one)
        assert found == [1000] * 10


async def test_who_waits_too_long_for_others_is_told_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asking, "PATIENCE_S", 0.05)
    async with asked(tmp_path) as history:
        await history.asker._turn.acquire()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_refused_as_busy, history)


async def test_a_history_that_is_sealed_is_answered_from_with_its_key(tmp_path: Path) -> None:
    key = KeyRing((bytes(32),), os.urandom)
    async with asked(tmp_path, seals=key) as history:
        await history.keep("a/b", [{"n": n} for n in range(10)])
        await history.flush()
        assert await count(history) == 10
    data = (tmp_path / FOLDER / "data.mdb").read_bytes()
    assert b"a/b" not in data and key.current in data


async def test_without_its_key_history_waits_and_is_not_set_aside(tmp_path: Path) -> None:
    async with asked(tmp_path, seals=KeyRing((bytes(32),), os.urandom)) as history:
        await history.keep("a/b", [{"n": 1}])
        await history.flush()
    async with asked(tmp_path) as history:
        with trio.fail_after(PATIENCE_S):
            while history.digester.trouble is None:
                await trio.sleep(0.01)
        with pytest.raises(StoreFailed, match="history: it is sealed with the key"):
            await count(history)
    assert not (tmp_path / "history.damaged").exists()


async def test_a_flush_between_the_question_and_its_answer_gives_nothing_twice(
    tmp_path: Path,
) -> None:
    async with asked(tmp_path) as history:
        total = 0
        for _ in range(6):
            await history.keep("a/b", [{"n": n} for n in range(50)])
            total += 50
            found: list[int] = []

            async def one(found: list[int] = found) -> None:
                found.append(await count(history))

            async with trio.open_nursery() as nursery:
                for _ in range(3):
                    nursery.start_soon(one)
                await trio.sleep(0.001)
                # As the digester does, which only flushes what it has digested.
                nursery.start_soon(history.flush)
            assert all(each == total for each in found)


async def test_a_tail_that_the_file_has_overtaken_is_not_answered_from(tmp_path: Path) -> None:
    async with asked(tmp_path) as history:
        await history.keep("a/b", [{"n": 1}])
        assert await count(history) == 1
        inner = history.digester.history
        assert inner is not None
        *_, flush = inner.flush(0, trusted=False)
        assert flush is not None
        # The disk has it, and the digester has not heard so yet.
        inner.file.write(flush)
        with pytest.raises(ProtocolError, match="being written; try again"):
            await count(history)
        inner.flushed()
        assert await count(history) == 1


async def test_a_replaced_file_is_opened_anew(tmp_path: Path) -> None:
    async with asked(tmp_path) as history:
        await history.keep("a/b", [{"n": 1}])
        await history.flush()
        assert await count(history) == 1
        data = tmp_path / FOLDER / "data.mdb"
        copy = data.with_name("copy.mdb")
        copy.write_bytes(data.read_bytes())
        copy.rename(data)
        assert await count(history) == 1
        data.unlink()
        with pytest.raises(StoreFailed, match="history:"):
            await count(history)


async def test_a_history_that_is_not_open_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(digester, "CATCH_UP_S", 0.01)
    async with asked(tmp_path, digests=False) as history:
        with pytest.raises(StoreFailed, match="history is being opened"):
            await count(history)


async def test_streams_that_may_not_be_read_are_not_seen(tmp_path: Path) -> None:
    async with asked(tmp_path) as history:
        await history.keep("open/a", [{"n": 1}])
        await history.keep("shut/b", [{"n": 2, "secret": 3}])

        def may_read(name: str) -> bool:
            return name.startswith("open/")

        for given in ({"stream": "**"}, {"stream": "shut/b"}, {"stream": "shut/*"}):
            text = b"".join(
                (await history.ask("json", may_read, step="all", aggregate="count", **given)).pieces
            )
            assert b"secret" not in text and b"shut" not in text
            text = b"".join((await history.ask("json", may_read, order="newest", **given)).pieces)
            assert b"secret" not in text and b"shut" not in text
        nobody = await history.ask("json", lambda name: False, order="newest")
        assert b'"records":[]' in b"".join(nobody.pieces)


async def test_too_many_streams_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asking, "STREAMS_MAX", 2)
    async with asked(tmp_path) as history:
        for name in ("a", "b", "c"):
            await history.keep(f"s/{name}", [{"n": 1}])
        with pytest.raises(ProtocolError, match="at most 2, these are 3"):
            await count(history, stream="s/*")
        assert await count(history, stream="s/a") == 1


async def test_no_reader_is_left_in_the_file(tmp_path: Path) -> None:
    async with asked(tmp_path) as history:
        await history.keep("a/b", [{"n": 1}])
        await history.flush()
        for _ in range(3):
            assert await count(history) == 1
            pid = history.pid
            os.kill(pid, signal.SIGSTOP)
            with trio.move_on_after(0.02):
                await count(history)
            await eventually(partial(_is_gone, pid), "it is buried")
        inner = history.digester.history
        assert inner is not None
        readers = inner.file._env.readers().splitlines()[1:]
        assert not [line for line in readers if line.split()[0] != str(os.getpid())], readers


async def test_the_process_needs_little_memory(tmp_path: Path) -> None:
    async with asked(tmp_path) as history:
        for begin in range(0, 20_000, 1000):
            await history.keep("a/b", [{"n": n, "t": n / 10} for n in range(begin, begin + 1000)])
        await history.flush()
        assert await count(history) == 20_000
        await history.json(order="newest", limit=1000)
        status = Path(f"/proc/{history.pid}/status").read_text()
        kib = int(status.partition("RssAnon:")[2].split()[0])
        print(f"RssAnon of the process that answers: {kib / 1024:.1f} MiB")
        assert kib < 30 * 1024


@pytest.mark.parametrize("safe", ["", "1"])
async def test_it_is_started_whatever_the_agent_was_started_with(
    tmp_path: Path, safe: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONSAFEPATH", safe)
    monkeypatch.delenv("PYTHONPATH", raising=False)
    # A folder to start from with something that must not be imported.
    (tmp_path / "edge_agent").mkdir()
    (tmp_path / "edge_agent" / "__init__.py").write_text("raise SystemExit('the wrong one')")
    monkeypatch.chdir(tmp_path)
    async with asked(Path("store")) as history:
        await history.keep("a/b", [{"n": 1}])
        assert await count(history) == 1


def test_it_ends_with_its_input() -> None:
    done = subprocess.run(
        [sys.executable, "-P", "-c", asking._PROGRAM, "/nonexistent", asking._ROOT],
        input=b"", capture_output=True, timeout=PATIENCE_S, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
