from __future__ import annotations

import http.server
import os
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest
import trustme

from edge_agent.cli.agent_http import AgentAddress, question, read_token
from edge_agent.cli.common import TOKEN_VARIABLE, Failure
from tests.cli.people import people_port, record


def test_pages_follow_the_cursor_until_everything_has_come() -> None:
    with people_port() as (people, url):
        people.records, people.page = [record(seq) for seq in range(1, 26)], 10
        pages = list(AgentAddress(url).pages({"stream": "a/**"}, None))
    assert [len(page["records"]) for page in pages] == [10, 10, 5]
    assert [asked.get("next") for asked in people.asked] == [None, "main:10", "main:20"]
    assert {asked["stream"] for asked in people.asked} == {"a/**"}


def test_a_limit_ends_it_exactly_there() -> None:
    with people_port() as (people, url):
        people.records, people.page = [record(seq) for seq in range(1, 26)], 10
        pages = list(AgentAddress(url).pages({}, 15))
        assert sum(len(page["records"]) for page in pages) == 15
        assert list(AgentAddress(url).pages({}, 10))[-1]["truncated"]


def test_live_records_come_one_by_one_and_keep_alives_are_none() -> None:
    with people_port() as (people, url):
        people.live = [record(1), {"missed": 3}, record(2)]
        assert list(AgentAddress(url).live({})) == people.live


def test_a_token_goes_in_a_header_and_never_in_the_url(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("secret\n")
    with people_port() as (people, url):
        AgentAddress(url, tmp_path / "token").page({"limit": "1"})
        assert people.headers[0]["Authorization"] == "Bearer secret"
        assert "secret" not in str(people.asked)


@pytest.mark.parametrize(
    "status, body, says",
    [
        (400, b'{"error": {"code": "bad_query", "message": "from: expected"}}', "from: expected"),
        (401, b'{"error": {"message": "a token is needed"}}', r"needed\. Try --token-file"),
        (404, b"<html>", "HTTP 404, and not as an edge_agent answers"),
        (503, b'{"error": {"message": "4 queries are being answered"}}', "4 queries are"),
    ],
)
def test_a_refusal_is_told_in_the_agents_words(status: int, body: bytes, says: str) -> None:
    with people_port() as (people, url):
        people.refuse = (status, body)
        with pytest.raises(Failure, match=says) as told:
            AgentAddress(url).page({"limit": "1"})
        assert told.value.exit_code == (2 if status == 400 else 1)
        with pytest.raises(Failure, match=says):
            next(AgentAddress(url).live({}))


def test_nobody_there_says_what_to_look_at() -> None:
    with pytest.raises(Failure, match=r"no agent answers at \S+ \(Connection refused\)\. Is it"):
        AgentAddress("http://127.0.0.1:1").page({})
    with pytest.raises(Failure, match="expected http://HOST:PORT"):
        AgentAddress("ws://127.0.0.1:1").page({})


def test_a_question_leaves_out_what_was_not_asked() -> None:
    assert question(stream="a", from_="-1h", to=None) == {"stream": "a", "from": "-1h"}


class _Answers(http.server.BaseHTTPRequestHandler):
    seen: ClassVar[list[tuple[str, str | None]]] = []
    answer: ClassVar[tuple[int, bytes]] = (200, b"{}")
    length: ClassVar[str | None] = None

    def do_GET(self) -> None:
        self.seen.append((self.path, self.headers["Authorization"]))
        self.send_response(self.answer[0])
        if self.length is not None:
            self.send_header("Content-Length", self.length)
        self.end_headers()
        self.wfile.write(self.answer[1])

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
        pass


@pytest.fixture
def agent_url() -> Iterator[str]:
    _Answers.seen.clear()
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Answers) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_any_path_can_be_asked_for_and_the_token_never_into_the_url(
    agent_url: str, tmp_path: Path
) -> None:
    token = tmp_path / "token"
    token.write_text("secret\n")
    _Answers.answer = (200, b'{"a": 1}')
    found = AgentAddress(agent_url, token).json("/api/x", {"q": "a b"})
    assert found == {"a": 1}
    assert _Answers.seen == [("/api/x?q=a+b", "Bearer secret")]


@pytest.mark.parametrize(
    "answer,words",
    [
        ((401, b'{"error": {"code": "x", "message": "a token is needed"}}'), "--token-file"),
        ((400, b'{"error": {"code": "x", "message": "limit: expected"}}'), "limit: expected"),
        ((200, b"<html>a router</html>"), "is it one?"),
        ((200, b"[" * 100_000), "is it one?"),
        ((200, b'["what we ask for"]'), "is it one?"),
        ((200, b'{"another": 1}'), "is it one?"),
        ((200, b"null"), "is it one?"),
        ((302, b'{"what we ask for": 1}'), "HTTP 302"),
        ((500, b"[" * 100_000), "HTTP 500"),
        ((500, b""), "no reason given"),
    ],
)
def test_an_answer_that_is_none_says_what_to_do(
    agent_url: str, answer: tuple[int, bytes], words: str
) -> None:
    _Answers.answer = answer
    with pytest.raises(Failure) as caught:
        AgentAddress(agent_url).json("/api/x", told="what we ask for")
    assert words in caught.value.message


@pytest.mark.parametrize(
    "name, trusted, told",
    [("localhost", False, "--ca-file"), ("elsewhere.example", True, "the URL has to name a host")],
)
def test_a_certificate_that_is_not_taken_is_told_with_what_helps(
    tmp_path: Path, name: str, trusted: bool, told: str
) -> None:
    authority, ca_file = trustme.CA(), str(tmp_path / "ca.pem")
    (authority if trusted else trustme.CA()).cert_pem.write_to_path(ca_file)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(name).configure_cert(context)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Answers) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.handle_request)
        thread.start()
        with pytest.raises(Failure, match=told):
            AgentAddress(f"https://localhost:{server.server_port}", ca_file=ca_file).json("/")
        thread.join()


def test_nobody_there_says_so() -> None:
    with pytest.raises(Failure, match="no agent answers"):
        AgentAddress("http://127.0.0.1:1").json("/")
    with pytest.raises(Failure, match="expected http"):
        AgentAddress("127.0.0.1:8766").json("/")


@pytest.mark.parametrize(
    "url",
    ["http://[::1", "http://a b", "http://127.0.0.1/a b", "http://127.0.0.1:x",
     f"http://{'a' * 64}.example", "http://127.0.0.1/ü"],
)  # fmt: skip
def test_a_url_that_is_none_is_told_as_such(url: str) -> None:
    with pytest.raises(Failure, match="--url: expected http://HOST:PORT") as caught:
        AgentAddress(url).json("/")
    assert caught.value.exit_code == 2


def test_an_answer_that_was_cut_is_told_as_such(agent_url: str, monkeypatch: Any) -> None:
    monkeypatch.setattr(_Answers, "length", "100")
    _Answers.answer = (200, b'{"records": [')
    with pytest.raises(Failure, match="broke off"):
        AgentAddress(agent_url).page({})


@pytest.mark.parametrize("value", [b"a\nb", "€".encode(), b"\xff"])
def test_a_token_in_the_environment_is_looked_at_as_one_in_a_file(
    monkeypatch: pytest.MonkeyPatch, value: bytes
) -> None:
    monkeypatch.setenv(TOKEN_VARIABLE, os.fsdecode(value))
    with pytest.raises(Failure, match=f"^{TOKEN_VARIABLE}: "):
        read_token(None)
    monkeypatch.setenv(TOKEN_VARIABLE, " secret ")
    assert read_token(None) == "secret"


def test_a_token_is_read_without_its_line_break(tmp_path: Path) -> None:
    (tmp_path / "t").write_text("secret\n")
    assert read_token(tmp_path / "t") == "secret"
    assert read_token(None) is None


def test_a_file_that_holds_no_token_is_told_without_repeating_it(tmp_path: Path) -> None:
    (tmp_path / "t").write_text("secret\nHost: evil\n")
    with pytest.raises(Failure, match="expected one line") as caught:
        read_token(tmp_path / "t")
    assert "evil" not in caught.value.message
