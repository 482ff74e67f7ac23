from __future__ import annotations

import io
import socket
import ssl
import threading
from pathlib import Path
from typing import Any

import pytest
import trustme

from edge_agent.cli.async_main import run
from edge_agent.cli.common import Failure
from edge_agent.cli.progress import ProgressBar
from edge_agent.cli.send.options import EX_DATAERR, EX_NOPERM, EX_UNAVAILABLE, Diary
from edge_agent.cli.send.rows import BoundedLines, read_rows
from edge_agent.cli.send.times import TimeReader
from edge_agent.cli.send.work import Sending, SendOutcome
from tests.client.stub import agent_on_a_port
from tests.patience import PATIENCE_S


def send(url: str, text: str, **options: Any) -> SendOutcome:
    """Send ``text`` as JSON lines; a Failure carries no outcome, hence the attribute."""
    given = {
        "token": None, "ca_file": None, "numbered": True, "skip_bad": False,
        "timeout": PATIENCE_S, "diary": Diary(quiet=True),
    } | options  # fmt: skip
    sending = Sending(url, "file/x", **given)
    lines = BoundedLines(io.BytesIO(text.encode()))
    rows = read_rows(lines, "jsonl", TimeReader())
    try:
        run(lambda: sending.run(rows, lines, ProgressBar("x", None, shown=False)))
    except Failure as failure:
        failure.outcome = sending.outcome  # type: ignore[attr-defined] # for the tests below
        raise
    return sending.outcome


def lines_of(first: int, last: int) -> str:
    return "".join(f'{{"n": {n}}}\n' for n in range(first, last + 1))


def test_everything_is_acked_and_a_second_run_doubles_nothing() -> None:
    with agent_on_a_port() as (agent, url):
        outcome = send(url, lines_of(1, 1200))
        assert (outcome.records, outcome.acked, outcome.had) == (1200, 1200, 0)
        outcome = send(url, lines_of(1, 1200))
        assert (outcome.records, outcome.acked, outcome.had) == (1200, 1200, 1200)
        assert agent.kept("file/x") == list(range(1, 1201))


def test_a_file_that_has_grown_is_continued() -> None:
    with agent_on_a_port() as (agent, url):
        send(url, lines_of(1, 3))
        send(url, lines_of(1, 5))
        assert agent.kept("file/x") == [1, 2, 3, 4, 5]


def test_a_file_that_has_shrunk_is_an_error_that_says_what_to_do() -> None:
    with agent_on_a_port() as (_, url):
        send(url, lines_of(1, 5))
        with pytest.raises(Failure, match=r"has 5 records of this file, which holds 3.*--source"):
            send(url, lines_of(1, 3))


def test_at_a_bad_row_what_stands_before_it_is_sent_and_acked() -> None:
    with agent_on_a_port() as (agent, url):
        with pytest.raises(Failure, match="line 3: not JSON") as caught:
            send(url, lines_of(1, 2) + "oops\n" + lines_of(3, 4))
        assert caught.value.exit_code == EX_DATAERR
        assert agent.kept("file/x") == [1, 2]
        outcome = send(url, lines_of(1, 2) + "oops\n" + lines_of(3, 4), skip_bad=True)
        assert (outcome.skipped, outcome.acked) == (1, 4)
        assert agent.kept("file/x") == [1, 2, 3, 4]


def test_a_record_that_the_agent_refuses_is_told_with_its_line(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with agent_on_a_port() as (agent, url):
        with pytest.raises(Failure, match="records were refused: 1 bad_stream") as caught:
            send(url, lines_of(1, 1) + '\n{"stream": "a//b"}\n' + lines_of(2, 2), diary=Diary())
        assert caught.value.exit_code == EX_DATAERR
        assert agent.kept("file/x") == [1, 2]
    assert "line 3: refused, bad_stream" in capsys.readouterr().err


def test_of_many_that_are_refused_for_one_reason_some_are_told_and_the_rest_counted(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with agent_on_a_port() as (_, url):
        bad = '{"stream": "a//b"}\n' * 20
        with pytest.raises(Failure, match="records were refused: 20 bad_stream"):
            send(url, bad + lines_of(1, 1), diary=Diary())
    assert len(capsys.readouterr().err.splitlines()) == 5


@pytest.mark.parametrize(
    "status, told", [(401, r"HTTP 401: no\. \(try .*--token-file FILE"), (404, "404"), (400, "400")]
)
def test_a_refusal_ends_it_at_once(status: int, told: str) -> None:
    with agent_on_a_port() as (agent, url):
        agent.refuse = (status, b"no.")
        with pytest.raises(Failure, match=told) as caught:
            send(url, lines_of(1, 2), timeout=PATIENCE_S)
    assert caught.value.exit_code == EX_NOPERM


@pytest.mark.parametrize(
    "name, trusted, told",
    [
        ("127.0.0.1", False, "--ca-file names the ca.pem"),
        ("elsewhere.example", True, "the URL has to name a host"),
    ],
)
def test_a_certificate_that_is_not_taken_ends_it_at_once(
    tmp_path: Path, name: str, trusted: bool, told: str
) -> None:
    authority, context = trustme.CA(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(name).configure_cert(context)
    ca_file = tmp_path / "ca.pem"
    (authority if trusted else trustme.CA()).cert_pem.write_to_path(str(ca_file))

    def turn_away() -> None:
        with listener, listener.accept()[0] as peer, pytest.raises(OSError):
            context.wrap_socket(peer, server_side=True)

    listener = socket.create_server(("127.0.0.1", 0))
    listener.settimeout(PATIENCE_S)
    thread = threading.Thread(target=turn_away)
    thread.start()
    url = f"wss://127.0.0.1:{listener.getsockname()[1]}/ingest/s"
    with pytest.raises(Failure, match=told) as caught:
        send(url, lines_of(1, 2), ca_file=str(ca_file), timeout=PATIENCE_S)
    thread.join()
    assert caught.value.exit_code == EX_NOPERM


def test_nobody_there_is_given_up_after_the_timeout_with_the_reason() -> None:
    with pytest.raises(
        Failure, match=r"gave up after 0.2 s: 127.0.0.1:1: Connection ref"
    ) as caught:
        send("ws://127.0.0.1:1/ingest/s", lines_of(1, 2), timeout=0.2)
    assert caught.value.exit_code == EX_UNAVAILABLE


def test_a_connection_that_drops_in_the_middle_costs_nothing() -> None:
    with agent_on_a_port() as (agent, url):
        agent.cut_after = 1
        send(url, lines_of(1, 1500), timeout=PATIENCE_S)
        assert agent.kept("file/x") == list(range(1, 1501))
        assert len(agent.hellos) == 2
