"""What is wrong with an upstream that is a database is said with its key."""

from __future__ import annotations

from urllib.parse import urlsplit

import pytest

from edge_agent.config import parse
from edge_agent.config.database_problems import postgres_url_problem
from edge_agent.errors import ConfigError

INFLUX = '[[upstream]]\nname = "db"\nurl = "http://h/write?db=x{query}"\nformat = "line"\n{more}\n'
POSTGRES = '[[upstream]]\nname = "db"\nurl = "postgresql://{url}"\n{more}\n'


@pytest.mark.parametrize("more, query", [
    ("", ""), ('accept = "status"', ""), ("[upstream.influx]\nvictoria = true", "&precision=ms"),
    ("[upstream.influx]\nunique_times = false", "&precision=s"),
    ('[upstream.influx]\nmeasurement = "edge data"\ntags = ["stream", "agent"]', "&precision=ns"),
    ('[upstream.influx]\nmeasurement = "x/{stream}"\ntags = []', ""),
])  # fmt: skip
def test_good_upstreams_of_lines(more: str, query: str) -> None:
    (upstream,) = parse(INFLUX.format(more=more, query=query), "file").upstream
    assert upstream.kind == "influx"


@pytest.mark.parametrize("more, query, key", [
    ('[upstream.influx]\nmeasurement = "#x{stream}"', "", "influx.measurement"),
    ('[upstream.influx]\nmeasurement = " "', "", "influx.measurement"),
    ("[upstream.influx]\nmeasurement = 'a\\b{stream}'", "", "influx.measurement"),
    ('[upstream.influx]\ntags = ["host"]', "", "influx.tags"),
    ('[upstream.influx]\ntags = ["agent", "agent"]', "", "influx.tags"),
    ('[upstream.influx]\nmeasurement = "fixed"', "", "influx.tags"),
    ("", "&precision=ms", "influx.unique_times"),
    ("", "&precision=h", "url"),
    ('compression = "zstd"', "", "compression"),
    ('accept = "json"', "", "accept"),
])  # fmt: skip
def test_bad_upstreams_of_lines(more: str, query: str, key: str) -> None:
    with pytest.raises(ConfigError, match=f"upstream.db.{key}: expected"):
        parse(INFLUX.format(more=more, query=query), "file")


@pytest.mark.parametrize("url, more", [
    ("me@h/db", ""), ("me@h:1/db?sslmode=require", ""), ("h/db", 'user = "me"\npassword_file = "f"'),
    ("me@h/db", 'password_file = "f"\n[upstream.postgres]\ntable = "s.t"\ncreate = false'),
])  # fmt: skip
def test_good_upstreams_of_postgresql(url: str, more: str) -> None:
    (upstream,) = parse(POSTGRES.format(url=url, more=more), "file").upstream
    assert upstream.kind == "postgres"


@pytest.mark.parametrize("url, more, key", [
    ("me:s3cret@h/db", "", "url"), ("me@h", "", "url"), ("me@h/", "", "url"),
    ("me@h/db?sslmode=prefer", "", "url"), ("me@h/db?host=x", "", "url"), ("me@h/a/b", "", "url"),
    ("h/db", "", "user"), ("me@h/db", 'user = "me"\npassword_file = "f"', "user"),
    ("me@h/db", 'token_file = "t"', "token_file"), ("me@h/db", 'headers = { A = "b" }', "headers"),
    ("me@h/db", 'proxy = "http://p:1"', "proxy"),
    ("me@h/db", "[upstream.postgres]\ntable = 'a;b'", "postgres.table"),
    ("me@h/db", "[upstream.postgres]\ntable = 'a.b.c'", "postgres.table"),
])  # fmt: skip
def test_bad_upstreams_of_postgresql(url: str, more: str, key: str) -> None:
    with pytest.raises(ConfigError, match=f"upstream.db.{key}: expected") as caught:
        parse(POSTGRES.format(url=url, more=more), "file")
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize("table", ["influx", "postgres"])
def test_a_table_of_another_kind_is_an_error(table: str) -> None:
    text = f'[[upstream]]\nname = "db"\nurl = "https://h/in"\n[upstream.{table}]\n'
    with pytest.raises(ConfigError, match=f"upstream.db.{table}: expected"):
        parse(text, "file")


def test_a_url_of_postgresql_alone() -> None:
    assert postgres_url_problem(urlsplit("postgresql://me@h/db")) is None
