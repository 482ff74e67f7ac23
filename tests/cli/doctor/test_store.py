"""The store and its agent: verdicts by tables, and real ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import trio

from edge_agent.cli.doctor.store import (
    Folder,
    HeldStore,
    judge_agent,
    judge_commits,
    judge_folder,
    judge_quarantine,
    judge_refused,
    judge_salvage,
    judge_sources,
    judge_store,
    look_at_folder,
    look_at_store,
    store_findings,
)
from edge_agent.store import Entry, Quarantined
from tests.ops.real import agent


@pytest.mark.parametrize(
    "folder, verdict, told",
    [
        (Folder("/x", there=False), "ok", "not there yet"),
        (Folder("/x", is_folder=False), "fail", "no folder"),
        (Folder("/x", owner="root", writable=False), "fail", "cannot be written"),
        (Folder("/x", owner="pi", mode=0o755), "warn", "others"),
        (Folder("/x", owner="edge-agent"), "ok", "of edge-agent, mode 700"),
    ],
)
def test_the_folder(folder: Folder, verdict: str, told: str) -> None:
    found = judge_folder(folder)
    assert (found.verdict, told in found.found) == (verdict, True), found


@pytest.mark.parametrize(
    "held, verdict, told",
    [
        (HeldStore(), "ok", "first look"),
        (HeldStore(there=False), "ok", "none yet"),
        (HeldStore(holder=77), "ok", "process 77"),
        (HeldStore(problem="the root is gone"), "fail", "the root is gone"),
    ],
)
def test_the_store(held: HeldStore, verdict: str, told: str) -> None:
    found = judge_store(held)
    assert (found.verdict, told in found.found) == (verdict, True), found


def status(word: str, *reasons: str) -> dict[str, Any]:
    told = [{"code": "x", "message": reason} for reason in reasons]
    return {"health": {"status": word, "reasons": told, "warnings": []}, "agent": {"id": "5f0c"}}


@pytest.mark.parametrize(
    "given, running, verdict, told",
    [
        (None, False, "ok", "not running"),
        (None, True, "warn", "does not answer"),
        (status("ok"), True, "ok", "5f0c"),
        (status("ok", "the clock"), True, "warn", "the clock"),
        (status("degraded", "away"), True, "warn", "away"),
        (status("failed", "the disk refuses"), True, "fail", "the disk refuses"),
    ],
)
def test_the_agent(given: dict[str, Any] | None, running: bool, verdict: str, told: str) -> None:
    found = judge_agent(given, "no answer", running=running)
    assert (found.verdict, told in found.found) == (verdict, True), found


def test_salvages_and_quarantine() -> None:
    assert [judge_salvage(names).verdict for names in ((), ("damaged-1",))] == ["ok", "warn"]
    assert "98 more may be lost" in judge_salvage(("damaged-1",), "98 more may be lost").found
    assert [judge_quarantine(n).verdict for n in (None, 0, 5)] == ["ok", "ok", "warn"]


async def test_a_store_that_nobody_holds_is_looked_into(tmp_path: Path) -> None:
    folder = tmp_path / "agent"
    async with agent(folder, serve=False) as running:
        await running.keep("a/1", [1, 2])
        bad = Quarantined("bad", "why", "a/1", "pi", 0, 1, b"x")
        await (await running.log.append(Entry(quarantine=(bad,)))).wait()
        assert look_at_store(folder).holder > 0
    found, held = store_findings(folder, "http://127.0.0.1:1")
    verdicts = {one.name: one.verdict for one in found}
    assert not held and verdicts["store"] == "ok" and verdicts["quarantine"] == "warn"
    data = bytearray((folder / "store" / "data.mdb").read_bytes())
    data[:8192] = bytes(8192)
    (folder / "store" / "data.mdb").write_bytes(data)
    assert look_at_store(folder).problem
    assert look_at_folder(tmp_path / "nothing").there is False


async def test_a_running_agent_is_asked(tmp_path: Path) -> None:
    async with agent(tmp_path) as running:
        url = f"http://127.0.0.1:{running.address[1]}"
        found, held = await trio.to_thread.run_sync(store_findings, tmp_path, url)
        assert held and found[-1].verdict == "ok", found[-1]


def test_places_for_sources_are_counted_and_who_finds_none_is_named() -> None:
    store = {"sources": 5, "sources_max": 10, "sources_lacking": {}}
    assert judge_sources(None).verdict == judge_sources(store).verdict == "ok"
    assert judge_sources(store | {"sources": 10}).verdict == "warn"
    found = judge_sources(store | {"sources_lacking": {"mallory": 5}})
    assert found.verdict == "warn" and "too many sources of mallory" in found.found


def refused(address: str, last_s: float) -> dict[str, Any]:
    return {
        "address": address,
        "port": "listen.address",
        "count": 12,
        "last_s": last_s,
        "sentence": "The token is not known here.",
    }


def test_who_was_refused_lately_is_told_with_the_reason() -> None:
    assert judge_refused([]).verdict == "ok"
    assert judge_refused([refused("192.0.2.7", 100_000.0)]).verdict == "ok"
    found = judge_refused([refused(f"192.0.2.{number}", 60.0) for number in range(5)])
    assert found.verdict == "warn"
    assert "192.0.2.0 at listen.address, 12 times: The token is not known here; " in found.found
    assert "not known here; 192.0.2.1 at" in found.found
    assert "192.0.2.4" not in found.found and found.found.endswith("not known here; and 2 more")


@pytest.mark.parametrize(
    "commits, own, card, pages, told",
    [
        (100, 26_000.0, 3_500_000, 4096, ["26 kB each, 35 kB with", "pages of 4 KiB"]),
        (100, 52_000.0, 6_500_000, 16384, ["52 kB each, 65 kB with", "pages of 16 KiB"]),
        (100, 26_000.0, None, 0, ["26 kB each"]),
        (3, 26_000.0, 90_000, 4096, ["too few"]),
        (0, None, 0, 4096, ["too few"]),
    ],
)
def test_what_a_commit_writes_is_told_as_it_was_measured(
    commits: int, own: float | None, card: int | None, pages: int, told: list[str]
) -> None:
    day = {"commits": commits, "bytes_per_commit": own, "card_bytes": card}
    found = judge_commits({"wear": {"day": day}, "store": {"page_bytes": pages}})
    assert found.verdict == "ok" and [one for one in told if one not in found.found] == []
    assert ("pages" in found.found) == (told[-1].startswith("pages"))
