"""`edge-agent top` against a people's port, in a pipe and in a terminal."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
import time

from click.testing import CliRunner, Result

from edge_agent.cli.top import command
from tests.cli.top.pictured import answering, answers, stream
from tests.ops.pictures import STATUS
from tests.patience import PATIENCE_S


def top(url: str, *arguments: str, **environment: str) -> Result:
    return CliRunner().invoke(command, ["--url", url, *arguments], env=environment)


def test_one_picture_of_the_streams_that_match() -> None:
    with answering(answers(STATUS, stream("a/1", 2, t=21.5), stream("b/1", 3))) as (url, asked):
        done = top(url, "a/**", "--once", COLUMNS="80")
    assert done.exit_code == 0, done.output
    lines = done.output.splitlines()
    assert any(line.startswith("a/1") and "t=21.5" in line for line in lines)
    assert max(map(len, lines)) <= 80 and "\x1b" not in done.output
    assert asked == [("/api/status", {}), ("/api/streams", {"stream": "a/**"})]


def test_json_is_all_that_a_picture_is_made_of() -> None:
    found = answers(STATUS, stream("a/1", 2))
    with answering(found) as (url, _):
        told = json.loads(top(url, "--json").stdout)
    assert told == {"status": found["/api/status"], "streams": found["/api/streams"]["streams"]}


def test_where_there_is_no_agent_one_sentence_says_what_to_try() -> None:
    done = top("http://127.0.0.1:1")
    assert done.exit_code == 1 and "edge-agent run" in done.output


def test_an_agent_that_knows_no_last_values_is_told_as_such() -> None:
    with answering(answers(STATUS, {"stream": "a"})) as (url, _):
        done = top(url)
    assert done.exit_code == 1 and "earlier version" in done.output


def test_in_a_terminal_it_draws_again_obeys_keys_and_leaves_it_as_it_was() -> None:
    found = answers(STATUS, stream("a/1", 2), stream("b/1", 3))
    outer, inner = pty.openpty()
    fcntl.ioctl(inner, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    before = termios.tcgetattr(inner)
    environment = os.environ | {"TERM": "xterm-256color", "PYTHONIOENCODING": "utf-8"}
    environment["NO_COLOR"] = "1"
    with answering(found) as (url, asked):
        process = subprocess.Popen(
            [sys.executable, "-m", "edge_agent", "top", "--url", url],
            stdin=inner, stdout=inner, stderr=inner, env=environment,
        )  # fmt: skip
        try:
            shown = read_until(outer, "2 streams by rate")
            os.write(outer, b"s")
            shown += read_until(outer, "2 streams by name")
            os.write(outer, b"r")
            shown += read_until(outer, "by name, reversed")
            end_s = time.monotonic() + PATIENCE_S
            while len(asked) < 4 and time.monotonic() < end_s:
                time.sleep(0.02)
            os.write(outer, b"q")
            assert process.wait(PATIENCE_S) == 0
        finally:
            process.kill()
            process.wait()
            after = termios.tcgetattr(inner)
            os.close(outer)
            os.close(inner)
    assert len(asked) >= 4, "it asks again each second"
    assert after == before
    assert "\x1b[1m" in shown and not re.search(r"\x1b\[[\d;]*3\dm", shown), "bold is no colour"


def read_until(file: int, text: str) -> str:
    """What comes out of a terminal, until ``text`` has."""
    shown, end_s = "", time.monotonic() + PATIENCE_S
    while text not in shown:
        ready, _, _ = select.select([file], [], [], max(0, end_s - time.monotonic()))
        assert ready, shown
        shown += os.read(file, 65536).decode(errors="replace")
    return shown
