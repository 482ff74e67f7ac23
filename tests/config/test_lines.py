"""Lines of keys, for errors."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge_agent.config import load_config
from edge_agent.config.lines import key_lines, line_of
from edge_agent.errors import ConfigError

TEXT = '''\
drain_timeout = "5s"
[listen]   # the sensors' port
address = "127.0.0.1:1"
hosts = [
  "a",
  "b = c",
]
[log."main"]
keep = "1d"
[[upstream]]
url = "x"
name = "hub"
token_file = """
[store]
size = 1
"""
[[upstream]]
name = 'two.1'
'''


@pytest.mark.parametrize(
    "key, line",
    [
        ("drain_timeout", 1),
        ("listen", 2),
        ("listen.address", 3),
        ("listen.hosts", 4),
        ("log.main.keep", 9),
        ("upstream.hub.url", 11),
        ("upstream[0].url", 11),
        ("upstream.two.1.url", 17),
        ("log.main.share", 8),
        ("store.size", None),
    ],
)
def test_every_key_has_its_line_or_its_tables(key: str, line: int | None) -> None:
    assert line_of(key, key_lines(TEXT)) == line


def test_all_mistakes_are_told_at_once_with_their_lines(tmp_path: Path) -> None:
    path = tmp_path / "a.toml"
    path.write_text(
        '[listen]\nadress = "x"\nconnections = 0\n[store]\nsize = "lots"\n'
        '[[upstream]]\nname = "hub"\nurl = "ftp://x"\n[[upstream]]\nurl = "ws://x"\n'
        '[[rule]]\nname = "r"\nstreams = ["**"]\n[wrong]\n'
    )
    with pytest.raises(ConfigError) as caught:
        load_config(path, env={}, overrides={})
    told = str(caught.value).splitlines()
    assert [line.split(":")[0].rpartition(", ")[2] for line in told] == [
        "line 2", "line 3", "line 5", "line 8", "line 9", "line 11", "line 14",
    ]  # fmt: skip
    for part in ("listen.adress", "listen.connections", "store.size", "upstream.hub.url",
                 "upstream[1].name", "rule.r.rename", "wrong"):  # fmt: skip
        assert part in str(caught.value)


def test_what_follows_from_a_mistake_alone_is_not_told(tmp_path: Path) -> None:
    path = tmp_path / "a.toml"
    path.write_text('[limits]\nmessage_bytes = "x"\nrecord_bytes = "1MiB"\n[rule]\n')
    with pytest.raises(ConfigError) as caught:
        load_config(path, env={}, overrides={})
    told = str(caught.value).splitlines()
    assert ["message_bytes" in told[0], "rule" in told[-1]] == [True, True]
    assert not any("limits.record_bytes: expected at most limits.message" in one for one in told)
