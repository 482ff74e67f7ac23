"""`edge-agent status`: R, Q and E of an agent that runs."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from click.testing import CliRunner

from edge_agent.cli.status import command
from edge_agent.ops import Status, health
from edge_agent.ops.status import AlarmStatus, RefusedStatus
from tests.ops.pictures import LOG, STATUS, UPSTREAM, unwell


@contextmanager
def answering(status: Status) -> Iterator[str]:
    """A people's port that shows ``status``."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            assert self.path == "/api/status"
            self.send_response(200)
            self.end_headers()
            self.wfile.write(status.to_json())

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - as the base class
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_the_three_figures_the_upstreams_and_the_logs_are_shown() -> None:
    away = replace(UPSTREAM, name="cloud", connected=False, error="refused [our] token")
    with answering(replace(STATUS, upstreams=(UPSTREAM, away))) as url:
        done = CliRunner().invoke(command, ["--url", url])
    assert done.exit_code == 0, done.output
    lines = {line.split("  ")[0].strip(): line for line in done.output.splitlines()}
    assert "1 234/s" in lines["R received"] and "85.6 KiB/s" in lines["R received"]
    assert "1 000/s" in lines["R forwarded"]
    assert "250" in lines["Q answers per second"]
    assert "98.8 k" in lines["E records per CPU second"]
    assert "4 711" in lines["hub"] and "[our]" in done.output
    assert "12 %" in lines["main"]


def test_when_an_upstream_is_tried_again_is_shown() -> None:
    held = replace(UPSTREAM, phase="held", connected=False, error="HTTP 401", retry_in_s=12.0)
    with answering(replace(STATUS, upstreams=(UPSTREAM, held))) as url:
        done = CliRunner().invoke(command, ["--url", url])
    assert "held, next try in 12 s" in done.output and done.output.count("next try") == 1


def test_wear_and_outlook_are_shown() -> None:
    log = replace(LOG, outlook="at today's rate 61 h until the oldest undelivered record is lost")
    hub = replace(UPSTREAM, outlook="the backlog drains in 14 min at this link")
    with answering(replace(STATUS, logs=(log,), upstreams=(hub,))) as url:
        done = CliRunner().invoke(command, ["--url", url])
    assert done.exit_code == 0, done.output
    lines = {line.split("  ")[0].strip(): line for line in done.output.splitlines()}
    for figure in ("1.92 GB", "2.4 GB", "26.7 kB", "3.5"):
        assert figure in lines["last hour"]
    for sentence in (
        "• log main: at today's rate 61 h until the oldest undelivered record is lost",
        "• hub: the backlog drains in 14 min at this link",
        "• the 30 TB that the card is made for last about 14 years at today's rate",
        "• commits are spread to 12 s to keep 2 GB a day",
    ):
        assert sentence in done.output.splitlines()


def test_json_is_the_whole_picture() -> None:
    with answering(STATUS) as url:
        done = CliRunner().invoke(command, ["--url", url, "--json"])
    assert json.loads(done.stdout) == json.loads(STATUS.to_json())


def test_an_agent_that_failed_says_why_and_exits_with_1() -> None:
    verdict = health.judge(unwell(problem="read-only file system"))
    with answering(replace(STATUS, health=verdict)) as url:
        done = CliRunner().invoke(command, ["--url", url])
    assert done.exit_code == 1 and "read-only file system" in done.output


def test_no_agent_is_one_line_that_says_what_to_try() -> None:
    done = CliRunner().invoke(command, ["--url", "http://127.0.0.1:1"])
    assert done.exit_code == 1 and "edge-agent run" in done.output


def test_alarms_that_are_on_are_told_with_their_streams_the_first_ten_of_them() -> None:
    one = AlarmStatus("hot", "t above 30", "s/[1]", "2026-11-22T09:00:00Z", 31.5)
    open_ = AlarmStatus("open", "door.open", "door/1", "2026-11-22T09:00:00Z", None)
    with answering(replace(STATUS, alarms=(open_, *[one] * 12))) as url:
        done = CliRunner().invoke(command, ["--url", url])
    assert "alarm hot, t above 30: s/[1] (31.5), since 2026-11-22T09:00:00Z" in done.output
    assert "alarm open, door.open: door/1, since 2026-11-22T09:00:00Z" in done.output
    assert "and 3 more alarms" in done.output


def test_who_was_refused_is_told_with_what_helps() -> None:
    one = RefusedStatus(
        "192.0.2.7", "listen.address", "bad_token", "Not known [here].", 12, "", "", 90
    )
    with answering(replace(STATUS, refused=(one,))) as url:
        done = CliRunner().invoke(command, ["--url", url])
    assert "refused 192.0.2.7 at listen.address, 12 times, last 90 s ago: Not known [here]." in (
        done.output
    )
