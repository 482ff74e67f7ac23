"""The scripts of docs/sensors/shell.md, with a real curl and a real websocat."""

from __future__ import annotations

import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
import trio

from tests.docs.examples import examples_of
from tests.docs.sensors.sensors import STREAM, behind_a_relay, filled_in, more_than, running, values
from tests.end_to_end.keys import Keys
from tests.patience import PATIENCE_S

pytestmark = pytest.mark.needs("curl")
PAGE = "sensors/shell.md"
SCRIPTS = {one.title: one.code for one in (*examples_of(PAGE, "sh"), *examples_of(PAGE, "bash"))}
#: What measures there may not be here.
ZONE = "/sys/class/thermal/thermal_zone0/temp"


def prepared(title: str, port: int, keys: Keys, folder: Path, token: str = "sensor") -> str:
    (folder / "temp").write_text("48312\n")
    (folder / "ca.pem").write_bytes(keys.ca.read_bytes())
    return filled_in(SCRIPTS[title], port, keys, token).replace(ZONE, "temp")


async def bash(script: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return await trio.to_thread.run_sync(
        partial(
            subprocess.run, ["bash", "-c", script], cwd=folder, capture_output=True, text=True,
            timeout=2 * PATIENCE_S, check=False,
        )
    )  # fmt: skip


async def test_a_spool_loses_nothing_and_stores_nothing_twice(tmp_path: Path, keys: Keys) -> None:
    async with behind_a_relay(tmp_path, keys) as (agent, relay):
        done = await bash(prepared("One reading", relay.port, keys, tmp_path), tmp_path)
        assert (done.returncode, done.stdout) == (0, '{"stored":1,"refused":[]}\n'), done.stderr
        script = prepared("With a spool", relay.port, keys, tmp_path)
        spool = tmp_path / "spool"
        relay.cut()
        for n in range(3):
            (tmp_path / "temp").write_text(f"{n}000\n")
            done = await bash(script, tmp_path)
            assert done.returncode == 1 and "not sent: HTTP 000" in done.stderr
        (kept,) = [path for path in spool.iterdir() if b'"t": 1.0' in path.read_bytes()]
        again = kept.read_bytes()
        relay.restore()
        (tmp_path / "temp").write_text("3000\n")
        assert (await bash(script, tmp_path)).returncode == 0
        # An answer that was lost: the file is there still.
        kept.write_bytes(again)
        (tmp_path / "temp").write_text("4000\n")
        assert (await bash(script, tmp_path)).returncode == 0
        assert not [path for path in spool.iterdir() if not path.name.startswith(".")]
        assert await values(agent) == [48.312, 0, 1, 2, 3, 4]
        refused = await bash(
            prepared("With a spool", relay.port, keys, tmp_path, token="reader"), tmp_path
        )
        assert "not sent: HTTP 403" in refused.stderr


@pytest.mark.parametrize("title", ["One reading", "With a spool"])
async def test_no_command_that_they_call_has_the_token_among_its_words(
    tmp_path: Path, keys: Keys, title: str
) -> None:
    script = prepared(title, 1, keys, tmp_path).replace(" 30 ", " 1 ")
    words = tmp_path / "words"
    (told := tmp_path / "curl").write_text(f'#!/bin/sh\necho "$@" >> {words}\ncat >> {words}.in\n')
    told.chmod(0o755)
    await bash(f"PATH={tmp_path}:$PATH\n{script}", tmp_path)
    secret = keys.secrets["sensor"]
    assert "--cacert" in words.read_text() and secret not in words.read_text()
    assert f'header = "Authorization: Bearer {secret}"' in Path(f"{words}.in").read_text()


@pytest.mark.needs("websocat")
async def test_websocat_sends_each_line(tmp_path: Path, keys: Keys) -> None:
    async with behind_a_relay(tmp_path, keys) as (agent, relay):
        script = prepared("A program that goes on", relay.port, keys, tmp_path)
        source = script.partition("do\n")[2].partition("|\n")[0]
        assert source.strip().startswith("vmstat")
        script = script.replace(source, "    seq 5 | sed 's/.*/{\"t\": &}/' ").replace(
            "sleep 5", "sleep 1"
        )
        path = f"{Path(sys.executable).parent}:/usr/bin:/bin"
        with running(["bash", "-c", script], tmp_path, PATH=path):
            await more_than(agent, 4, tmp_path)
        assert (await values(agent))[:5] == [1, 2, 3, 4, 5]
        assert {one["stream"] for one in await agent.records()} == {STREAM}
