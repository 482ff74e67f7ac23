from __future__ import annotations

from pathlib import Path

import pytest

from edge_agent.cli.agent_http import AgentAddress, question
from edge_agent.cli.common import Failure
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
    ],
)
def test_a_refusal_is_told_in_the_agents_words(status: int, body: bytes, says: str) -> None:
    with people_port() as (people, url):
        people.refuse = (status, body)
        with pytest.raises(Failure, match=says):
            AgentAddress(url).page({"limit": "1"})


def test_nobody_there_says_what_to_look_at() -> None:
    with pytest.raises(Failure, match=r"no agent answers at .*Is it running"):
        AgentAddress("http://127.0.0.1:1").page({})
    with pytest.raises(Failure, match="expected http://HOST:PORT"):
        AgentAddress("ws://127.0.0.1:1").page({})


def test_a_question_leaves_out_what_was_not_asked() -> None:
    assert question(stream="a", from_="-1h", to=None) == {"stream": "a", "from": "-1h"}
