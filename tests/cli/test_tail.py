from __future__ import annotations

import json

from click.testing import CliRunner, Result

from edge_agent.cli.tail import command
from tests.cli.people import people_port, record


def tail(url: str, *arguments: str) -> Result:
    return CliRunner().invoke(command, ["--url", url, *arguments])


def test_the_newest_are_shown_oldest_first() -> None:
    with people_port() as (people, url):
        people.records, people.page = [record(seq, n=seq) for seq in range(1, 31)], 12
        result = tail(url, "a/**", "-n", "3")
        assert [line.rpartition("n=")[2] for line in result.stdout.splitlines()] == [
            "28",
            "29",
            "30",
        ]
        # The youngest minute was enough.
        assert {asked["from"] for asked in people.asked} == {"-1m"}


def test_where_there_are_few_it_looks_further_and_further_back() -> None:
    with people_port() as (people, url):
        people.records = [record(1, n=1)]
        assert len(tail(url).stdout.splitlines()) == 1
        assert [asked.get("from") for asked in people.asked] == ["-1m", "-1h", "-1d", None]


def test_following_goes_on_behind_the_last_one_shown() -> None:
    with people_port() as (people, url):
        people.records = [record(7, n=1)]
        people.live = [record(8, n=2), {"missed": 4}, record(13, n=3)]
        result = tail(url, "-f", "a/*")
        lines = result.stdout.splitlines()
        assert [line[-3:] for line in lines if "n=" in line] == ["n=1", "n=2", "n=3"]
        assert "4 records were missed" in result.stdout
        assert people.asked[-1] == {"stream": "a/*", "from": "main:8"}


def test_following_from_a_time_is_the_agents_work_alone() -> None:
    with people_port() as (people, url):
        people.live = [record(8, n=2)]
        result = tail(url, "-f", "--from", "-1h", "--json")
        assert json.loads(result.stdout) == people.live[0]
        assert people.asked == [{"stream": "**", "from": "-1h"}]


def test_from_a_time_shows_all_since() -> None:
    with people_port() as (people, url):
        people.records = [record(seq, n=seq) for seq in range(1, 31)]
        assert len(tail(url, "--from", "-1h").stdout.splitlines()) == 30


def test_what_is_stored_is_narrowed_as_what_is_to_come() -> None:
    with people_port() as (people, url):
        people.records = [record(7, t=1, h=2), record(8, h=3), record(9, params={"x": 4})]
        people.live = [record(10, t=5) | {"count": 12}]
        result = tail(url, "-f", "--fields", "t,params.x", "--step", "10s", "--filter", "h != 9")
        assert [line.rpartition("  a/b  ")[2] for line in result.stdout.splitlines()] == [
            "t=1",
            "params.x=4",
            "t=5  (of 12)",
        ]
        assert people.asked[-1] == {
            "stream": "**", "from": "main:10", "filter": "h != 9", "step": "10s",
            "fields": "t,params.x",
        }  # fmt: skip
        people.live = []
        assert len(tail(url, "--fields", "h").stdout.splitlines()) == 2
        assert len(tail(url, "--fields", "h", "--from", "-1h").stdout.splitlines()) == 2
        assert all("fields" not in asked for asked in people.asked if "limit" in asked)


def test_what_cannot_be_is_said_before_anything_is_asked() -> None:
    with people_port() as (people, url):
        lonely = tail(url, "--step", "1s")
        assert lonely.exit_code == 2 and "--step goes with -f" in lonely.output
        odd = tail(url, "--fields", "a..b")
        assert odd.exit_code == 2 and "--fields: expected names" in odd.output
        assert not people.asked
