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
