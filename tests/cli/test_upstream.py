"""`edge-agent upstream test` and `list`, against real ports and folders."""

from __future__ import annotations

import json
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import trio
import trustme
from click.testing import CliRunner, Result

from edge_agent.cli.upstream import _looked_at, command
from edge_agent.store import Position
from tests.cli.people import people_port
from tests.forward.http_upstream import Reply, http_upstream
from tests.forward.support import running_station
from tests.ops.real import agent


def configured(folder: Path, url: str, *more: str) -> Path:
    path = folder / "a.toml"
    lines = [f'[store]\npath = "{folder / "data"}"', "[[upstream]]", 'name = "x"', f'url = "{url}"']
    path.write_text("\n".join([*lines, 'timeout = "5s"', *more]) + "\n")
    return path


def invoke(*arguments: Any) -> Result:
    return CliRunner().invoke(command, [str(one) for one in arguments])


async def tried(config: Path, *more: str) -> Result:
    return await trio.to_thread.run_sync(invoke, "test", "x", "--config", config, *more)


async def test_every_step_of_a_server_that_takes_records_is_told(tmp_path: Path) -> None:
    async with http_upstream() as server:
        config = configured(tmp_path, server.url)
        done = await tried(config, "--size", "2KiB")
        assert done.exit_code == 0, done.output
        words = [line.split(":")[0].split() for line in done.output.splitlines()]
        assert words == [["ok", one] for one in ("credentials", "name", "connection", "answer")]
        (got,) = server.got
        (record,) = got.records
        assert record["stream"] == "edge-agent/probe" and len(record["fields"]["padding"]) == 2048
        assert "/probe/" in got.key
        done = await tried(config, "--no-send")
        assert done.exit_code == 0 and len(server.got) == 1


@pytest.mark.parametrize(
    "reply, said",
    [
        (Reply(401), "401"),
        (Reply(413), "413"),
        (Reply(400, b'{"error": "no field t"}'), "no field t"),
        (Reply(200, b"<html>Welcome to the Harbour Inn", {"Content-Type": "text/html"}), "portal"),
    ],
)
async def test_what_a_server_answers_is_told_in_a_sentence(
    tmp_path: Path, reply: Reply, said: str
) -> None:
    async with http_upstream() as server:
        server.answer = lambda _: reply
        done = await tried(configured(tmp_path, server.url))
        assert done.exit_code == 1
        failed = [line for line in done.output.splitlines() if line.startswith("FAIL")]
        assert len(failed) == 1 and said in failed[0], done.output


@pytest.mark.parametrize(
    "url, what",
    [("http://no-such-host.invalid/x", "name"), ("http://127.0.0.1:1/x", "connection")],
)
async def test_the_first_step_that_fails_is_the_last_that_is_told(
    tmp_path: Path, url: str, what: str
) -> None:
    done = await tried(configured(tmp_path, url), "--json")
    steps = json.loads(done.stdout)
    assert done.exit_code == 1
    assert [step["what"] for step in steps if not step["good"]] == [what]
    assert steps[-1]["what"] == what


async def test_a_certificate_that_has_ended_is_told_with_whose_clock_says_so(
    tmp_path: Path,
) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    ended = datetime.now(UTC) - timedelta(days=3)
    authority.issue_cert("127.0.0.1", not_after=ended).configure_cert(context)
    async with http_upstream(context=context) as server:
        url = server.url.replace("http:", "https:")
        done = await tried(configured(tmp_path, url, f'ca_file = "{tmp_path / "ca.pem"}"'))
    assert done.exit_code == 1
    (failed,) = [line for line in done.output.splitlines() if line.startswith("FAIL")]
    assert failed.startswith("FAIL  certificate") and "this machine's clock says" in failed


async def test_a_folder_is_written_to_and_left_as_it_was(tmp_path: Path) -> None:
    stick = tmp_path / "stick"
    config = configured(tmp_path, stick.as_uri())
    done = await tried(config)
    assert done.exit_code == 1 and "plugged in and mounted" in done.output
    stick.mkdir()
    done = await tried(config)
    assert done.exit_code == 0 and "MB are free" in done.output
    assert list(stick.iterdir()) == []


async def test_another_agent_is_asked_for_its_port_and_no_number_is_agreed_on(
    tmp_path: Path,
) -> None:
    from tests.forward.support import serving

    async with running_station(tmp_path / "hub") as hub, serving(hub) as port:
        done = await tried(configured(tmp_path, f"ws://127.0.0.1:{port}/forward"))
        assert done.exit_code == 0 and "token accepted" in done.output, done.output
        assert await hub.log.sources() == []


def test_an_upstream_that_is_not_configured_is_told_with_those_that_are(tmp_path: Path) -> None:
    done = invoke("test", "y", "--config", configured(tmp_path, "file:///x"))
    assert done.exit_code == 2 and "there are: x" in done.stderr


def listed(*arguments: Any) -> list[dict[str, Any]]:
    done = invoke("list", "--json", *arguments)
    assert done.exit_code == 0, done.output
    found: list[dict[str, Any]] = json.loads(done.stdout)
    return found


async def test_list_of_an_agent_that_does_not_run_says_how_far_it_had_come(
    tmp_path: Path,
) -> None:
    config = configured(tmp_path, "file:///mnt/usb")
    assert listed("--config", config) == [
        {"name": "x", "url": "file:///mnt/usb", "phase": "never ran", "backlog": 0, "said": ""}
    ]
    async with agent(tmp_path / "data", serve=False) as running:
        await running.keep("a/1", list(range(9)))
        await running.log.acknowledge(Position("upstream/x", "main", 5), durable=True)
    (row,) = await trio.to_thread.run_sync(listed, "--config", config)
    assert (row["phase"], row["backlog"]) == ("not running", 4)


def test_list_of_an_agent_that_runs_is_what_its_status_says() -> None:
    batch = {
        "time": "2026-11-29T23:14:15.242751535Z",
        "outcome": "acknowledged",
        "http_status": 204,
    }
    one = {
        "name": "x", "url": "https://h/…", "phase": "sending", "retry_in_s": None, "error": None,
        "backlog_records": 7, "lanes": [{"last_batch": batch}, {"last_batch": None}],
    }  # fmt: skip
    error = "the broker refuses the connection: not authorised (0x87); see user, password_file"
    bad = {**one, "name": "y", "phase": "waiting", "retry_in_s": 9.0, "error": error}
    shut = {**one, "name": "z", "phase": "waiting", "outlook": "waits for 01:00"}
    with people_port() as (port, url):
        port.status = {"upstreams": [one, bad, shut]}
        done = invoke("list", "--url", url)
    assert done.exit_code == 0, done.output
    first, second, third = done.output.splitlines()[1:]
    assert "HTTP 204, acknowledged 2026-11-29T23:14:15Z" in first and " waits for 01:00 " in third
    assert "next try in 9 s" in second and second.endswith(error)


async def test_a_resend_is_looked_at_first_and_asks_before_it_is_ordered(tmp_path: Path) -> None:
    config = configured(tmp_path, "ws://127.0.0.1:1/forward")
    async with running_station(tmp_path / "data") as station:
        await station.put(3)

    async def said(*more: str) -> Result:
        arguments = ("resend", "x", "--config", config, *more)
        return await trio.to_thread.run_sync(invoke, *arguments)

    assert "no resend was ordered for x" in (await said()).output
    for stream in ("", "a//b", "a" * 600):
        wrong = await said("--from", "start", "--stream", stream, "--yes")
        assert (
            wrong.exit_code == 2 and "'--stream': " in wrong.output and "JSON" not in wrong.output
        )
    nobody = await trio.to_thread.run_sync(invoke, "resend", "nobody", "--config", config)
    assert nobody.exit_code == 2 and "there are: x" in nobody.output
    half = await said("--from", "start")
    assert half.exit_code == 2 and "--from TIME --stream PATTERN" in half.output
    asked = await said("--from", "start", "--stream", "**")
    assert asked.exit_code == 2 and "records 1 to 3 are looked through" in asked.output
    assert "--yes does" in asked.output
    done = await said("--from", "start", "--stream", "**", "--yes")
    assert done.exit_code == 0 and "under way" in done.output
    (row,) = json.loads((await said("--json")).output)
    assert (row["left"], row["streams"], row["upstream"]) == (3, ["**"], "x")
    assert "--cancel" in str((await said("--from", "start", "--stream", "**")).exception)
    assert "cancelled" in (await said("--cancel")).output
    assert "nothing to cancel" in str((await said("--cancel")).exception)


@pytest.mark.parametrize(
    "more, runs, told",
    [
        ({"held_since": None}, True, "looked through"),
        ({"held_since": "T"}, True, "none from before T, those cannot be had any more"),
        ({"held_since": "T", "from_history": 0}, True, "those cannot be had any more"),
        ({"held_since": "T", "from_history": 7}, True, "before T: 7 of them come from history"),
        ({"held_since": "T", "from_history": None}, True, "what history has of them is sent, too"),
        ({"held_since": "T", "from_history": 0}, False, "orders it while the agent runs"),
        ({"held_since": None, "coarse": 5}, True, "5 records are only known as minutes or hours"),
        ({"held_since": None, "renamed": True}, True, "sent before it will be there twice"),
        ({"held_since": None, "damaged_parts": 2}, True, "2 parts of history are damaged"),
    ],
)
def test_where_records_of_an_order_come_from_is_told(
    more: dict[str, Any], runs: bool, told: str
) -> None:
    assert told in _looked_at({"log": "main", "first": 1, "last": 9} | more, runs=runs)
