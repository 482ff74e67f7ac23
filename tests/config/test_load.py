from __future__ import annotations

from pathlib import Path

import pytest

from edge_agent.config import Config, Duration, LogConfig, Size, load_config, parse
from edge_agent.config.load import key_lines, line_of
from edge_agent.errors import ConfigError

WHOLE = """
drain_timeout = "5s"
[listen]
address = "127.0.0.1:9000"
origins = ["https://a.example"]
[store]
path = "/data"
size = "256MiB"
[log.alarms]
streams = ["**/alarm"]
commit_interval = "50ms"
share = "10%"
when_full = "refuse"
[log.main]
keep = "7d"
[[upstream]]
name = "hub"
url = "wss://hub.example:8765/forward"
[[upstream]]
name = "cloud"
url = "https://cloud.example/in"
streams = ["a/**", "b"]
compression = "zstd"
[[rule]]
name = "tidy"
streams = ["a/*"]
rename = { temp = "t" }
[[rule]]
name = "mute"
streams = ["b"]
drop = "record"
[[rule]]
name = "hourly"
streams = ["**"]
window = "1h"
into = "{stream}/1h"
fields = ["t"]
"""


def from_env(text: str = "", **variables: str) -> Config:
    return load_text(text, env={f"EDGE_AGENT__{key}": value for key, value in variables.items()})


def load_text(
    text: str, env: dict[str, str] | None = None, overrides: dict[str, object] | None = None
) -> Config:
    from tempfile import NamedTemporaryFile

    with NamedTemporaryFile("w", suffix=".toml") as file:
        file.write(text)
        file.flush()
        return load_config(Path(file.name), env=env or {}, overrides=overrides or {})


def error_of(text: str) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        parse(text, "agent.toml")
    return caught.value


def test_without_anything_the_defaults_hold() -> None:
    assert load_config(None, env={}, overrides={}) == Config() == parse("", "agent.toml")
    assert Config().log == {"main": LogConfig()}


def test_a_whole_file_is_read_with_its_units() -> None:
    config = parse(WHOLE, "agent.toml")
    assert config.drain_timeout == 5
    assert config.listen.origins == ("https://a.example",)
    assert config.store.size == 256 * 2**20
    assert list(config.log) == ["alarms", "main"]
    assert config.log["alarms"].commit_interval == 0.05
    assert config.log["main"].keep == 7 * 86_400
    assert [upstream.name for upstream in config.upstream] == ["hub", "cloud"]
    assert config.upstream[1].streams == ("a/**", "b")
    assert config.rule[0].rename == {"temp": "t"}
    assert config.rule[1].drop == "record"
    assert config.rule[2].window == 3600


def test_the_log_main_is_there_even_if_only_others_are_named() -> None:
    config = parse('[log.alarms]\nshare = "10%"\n', "agent.toml")
    assert list(config.log) == ["alarms", "main"]


def test_file_environment_and_command_line_win_in_this_order() -> None:
    text = '[log.main]\nkeep = "1d"\ncommit_interval = "2s"\n[store]\nsize = "64MiB"\n'
    config = load_text(
        text,
        env={"EDGE_AGENT__LOG__MAIN__COMMIT_INTERVAL": "3s", "EDGE_AGENT__STORE__SIZE": "65MiB"},
        overrides={"store.size": "66MiB"},
    )
    assert config.log["main"].keep == 86_400
    assert config.log["main"].commit_interval == 3
    assert config.store.size == 66 * 2**20


def test_every_kind_of_value_can_come_from_the_environment() -> None:
    config = from_env(
        WHOLE,
        DRAIN_TIMEOUT="7s",
        LISTEN__INSECURE="true",
        LISTEN__CONNECTIONS="7",
        LISTEN__ORIGINS="https://a.example, https://b.example",
        LISTEN__HOSTS="",
        LISTEN__TOKENS="",
        LIMITS__RECORDS_PER_SECOND="2.5",
        LOG__ALARMS__SHARE="5%",
        LOG__BULK__SHARE="1%",
        UPSTREAM__HUB__STREAMS="x/**,y",
        RULE__TIDY__RENAME="a=b, c=d",
        RULE__MUTE__DROP="f,g",
    )
    assert config.drain_timeout == 7
    assert config.listen.insecure is True
    assert config.listen.connections == 7
    assert config.listen.origins == ("https://a.example", "https://b.example")
    assert config.listen.hosts == ()
    assert config.listen.tokens is None
    assert config.limits.records_per_second == 2.5
    assert config.log["alarms"].share == 0.05
    assert config.log["bulk"].share == 0.01
    assert config.upstream[0].streams == ("x/**", "y")
    assert config.rule[0].rename == {"a": "b", "c": "d"}
    assert config.rule[1].drop == ("f", "g")


def test_an_upstream_can_come_from_the_command_line_alone() -> None:
    config = load_config(
        None, env={}, overrides={"upstream.hub.url": "ws://127.0.0.1:9000/forward"}
    )
    assert [(upstream.name, upstream.url) for upstream in config.upstream] == [
        ("hub", "ws://127.0.0.1:9000/forward")
    ]


def test_a_variable_finds_a_name_that_variables_cannot_spell() -> None:
    text = '[[upstream]]\nname = "Main-Hub.2"\nurl = "https://x.example/"\n'
    config = from_env(text, UPSTREAM__MAIN_HUB_2__TIMEOUT="5s")
    assert [upstream.name for upstream in config.upstream] == ["Main-Hub.2"]
    assert config.upstream[0].timeout == 5


def test_ready_values_are_taken_as_they_are() -> None:
    config = load_config(
        None,
        env={},
        overrides={"store.size": Size(2**26), "log.main.keep": Duration(60), "listen.hosts": ["x"]},
    )
    assert (config.store.size, config.log["main"].keep) == (2**26, 60)
    assert config.listen.hosts == ("x",)


def test_other_variables_are_none_of_ours() -> None:
    assert (
        load_config(None, env={"EDGE_AGENT_REQUIRE_ALL": "1", "PATH": "x"}, overrides={})
        == Config()
    )


@pytest.mark.parametrize(
    "name",
    ["FOO", "STORE", "STORE__SIZES", "LOG__MAIN", "LOG__MAIN__KEEP__X", "LOG", "", "UPSTREAM__X"],
)
def test_an_unknown_variable_is_an_error_that_names_it(name: str) -> None:
    with pytest.raises(ConfigError) as caught:
        from_env(**{name: "1"})
    assert caught.value.where.startswith(f"environment: EDGE_AGENT__{name}: ")


@pytest.mark.parametrize(
    "text, message",
    [
        ("[listen]\nadress = 1", 'agent.toml: listen.adress: expected "address" (did you mean that?), found the unknown key "adress"'),
        ("[listne]", 'agent.toml: listne: expected "listen" (did you mean that?), found the unknown key "listne"'),
        ("[http]\nzzz = 1", 'agent.toml: http.zzz: expected one of address, hosts, origins, expose, connections, unproved, unproved_per_address, found the unknown key "zzz"'),
        ("[log.main]\nkeep = 30", 'agent.toml: log.main.keep: expected a duration with a unit, such as "250ms", "1s", "10m", "12h" or "30d", found 30'),
        ('[store]\nsize = "1 gig"', 'agent.toml: store.size: expected a size with a unit, such as "64KiB", "256MiB" or "1GiB", found "1 gig"'),
        ("[log.main]\nshare = 0.5", 'agent.toml: log.main.share: expected a share such as "70%", found 0.5'),
        ('[limits]\nqueries = "4"', 'agent.toml: limits.queries: expected a whole number, found "4"'),
        ("[limits]\nqueries = true", "agent.toml: limits.queries: expected a whole number, found true"),
        ("[listen]\naddress = 8765", 'agent.toml: listen.address: expected text in "quotes", found 8765'),
        ('[listen]\ninsecure = "yes"', 'agent.toml: listen.insecure: expected true or false, found "yes"'),
        ('[listen]\nhosts = "x"', 'agent.toml: listen.hosts: expected a list such as ["a", "b"], found "x"'),
        ('[log.main]\nwhen_full = "drop"', 'agent.toml: log.main.when_full: expected one of "discard-oldest", "thin-oldest", "refuse", found "drop"'),
        ("listen = 3", "agent.toml: listen: expected a table, found 3"),
        ("log = 3", "agent.toml: log: expected a table, found 3"),
        ("[log]\nmain = 3", "agent.toml: log.main: expected a table, found 3"),
        ("[upstream]\nname = 'x'", "agent.toml: upstream: expected tables headed [[upstream]], found {'name': 'x'}"),
        ("[[upstream]]\nurl = 'x'", 'agent.toml: upstream[0].name: expected text in "quotes", found nothing'),
        ("[[upstream]]\nname = 'x'", "agent.toml: upstream.x.url: expected this key, found nothing"),
        ("[[rule]]\nname = 'x'\n[[rule]]\nname = 'x'", "agent.toml: rule[1].name: expected a name of its own, found 'x' twice"),
        ("[[rule]]\nname = 'x'\ndrop = 'record'", "agent.toml: rule.x.streams: expected this key, found nothing"),
        ("[[rule]]\nname = 'x'\nstreams = ['a']\nrename = { a = 1 }", 'agent.toml: rule.x.rename: expected text in "quotes", found {\'a\': 1}'),
        ("[[rule]]\nname = 'x'\nstreams = ['a']\ndrop = 'all'", 'agent.toml: rule.x.drop: expected one of "record", found "all"'),
        ("[listen", "agent.toml: expected TOML, found a mistake: Expected ']' at the end of a table declaration (at end of document)"),
    ],
)  # fmt: skip
def test_an_error_names_file_key_expectation_and_finding(text: str, message: str) -> None:
    assert str(error_of(text)) == message


def test_a_long_finding_is_shortened() -> None:
    assert len(str(error_of(f'[store]\nsize = "{"9" * 5000}"'))) < 250


def test_a_wrong_override_is_blamed_on_the_command_line() -> None:
    with pytest.raises(ConfigError, match=r"^command line: store\.size: expected a size"):
        load_config(None, env={}, overrides={"store.size": "big"})


def test_a_wrong_variable_is_blamed_by_name() -> None:
    with pytest.raises(
        ConfigError, match=r"^environment: EDGE_AGENT__LIMITS__QUERIES: limits\.queries"
    ):
        from_env(LIMITS__QUERIES="many")


def test_a_byte_order_mark_is_no_mistake(tmp_path: Path) -> None:
    file = tmp_path / "agent.toml"
    file.write_text('\ufeff[listen]\naddress = "127.0.0.1:1"\n')
    assert load_config(file, env={}, overrides={}).listen.address == "127.0.0.1:1"


def test_a_file_that_is_missing_or_unreadable_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"absent\.toml: expected a readable file"):
        load_config(tmp_path / "absent.toml", env={}, overrides={})
    (tmp_path / "latin.toml").write_bytes(b"# caf\xe9\n")
    with pytest.raises(ConfigError, match=r"expected UTF-8 text, found byte 5"):
        load_config(tmp_path / "latin.toml", env={}, overrides={})


def test_wear_is_written_as_cards_are_sold() -> None:
    text = '[wear]\nendurance = "30TB"\nbytes_per_day_max = "2GB"\ncommit_interval_max = "30s"\n'
    wear = parse(text, "f").wear
    assert (wear.endurance, wear.bytes_per_day_max) == (30 * 10**12, 2 * 10**9)
    assert wear.commit_interval_max == 30
    assert (parse("", "f").wear.endurance, parse("", "f").wear.bytes_per_day_max) == (0, 0)


def test_a_log_may_have_a_bound_of_its_own() -> None:
    config = parse('[log.main]\ncommit_interval_max = "1s"\n', "f")
    assert config.log["main"].commit_interval_max == 1
    assert from_env(LOG__MAIN__COMMIT_INTERVAL_MAX="").log["main"].commit_interval_max is None


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


NESTED = """[[upstream]]
name = "a"
url = "mqtt://a"
[[upstream]]
name = "b"
url = "mqtt://b"
[upstream.mqtt]
topic = "x/{stream}"
[[rule]]
name = "r"
"""


def test_a_table_within_a_table_has_the_lines_of_its_owner() -> None:
    lines = key_lines(NESTED)
    assert line_of("upstream.b.mqtt.topic", lines) == 8
    assert line_of("upstream.a.mqtt.topic", lines) == 1


def test_a_key_of_a_table_within_a_table_has_a_variable(tmp_path: Path) -> None:
    path = tmp_path / "a.toml"
    path.write_text(NESTED.partition("[[rule]]")[0])
    env = {
        "EDGE_AGENT__UPSTREAM__A__MQTT__IN_FLIGHT": "7",
        "EDGE_AGENT__UPSTREAM__B__MQTT__KEEP_ALIVE": "20s",
    }
    a, b = load_config(path, env=env, overrides={}).upstream
    assert a.mqtt is not None and a.mqtt.in_flight == 7
    assert b.mqtt is not None and (b.mqtt.keep_alive, b.mqtt.topic) == (20, "x/{stream}")
    with pytest.raises(ConfigError, match="no such key"):
        load_config(path, env={"EDGE_AGENT__UPSTREAM__A__NAME__X": "7"}, overrides={})
    with pytest.raises(ConfigError, match="did you mean that"):
        load_config(path, env={"EDGE_AGENT__UPSTREAM__A__MQTT__TOPICS": "7"}, overrides={})


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


def test_a_file_nested_without_end_is_a_mistake_like_any_other(tmp_path: Path) -> None:
    path = tmp_path / "a.toml"
    path.write_text("a = " + "[" * 5000)
    with pytest.raises(ConfigError, match="expected TOML"):
        load_config(path, env={}, overrides={})


def test_a_number_without_end_is_a_mistake_like_any_other(tmp_path: Path) -> None:
    path = tmp_path / "a.toml"
    path.write_text("a = " + "9" * 5000)
    with pytest.raises(ConfigError, match="expected TOML"):
        load_config(path, env={}, overrides={})


@pytest.mark.parametrize(
    "text, key",
    [
        ('[store]\npath = "a\\u0000"', "store.path"),
        ('[listen]\norigins = ["https://a", "\\u0000"]', "listen.origins"),
        ('[[rule]]\nname = "r"\nstreams = ["a"]\nrename = { "a\\u0000" = "b" }', "rule.r.rename"),
    ],
)
def test_no_text_has_the_character_0(tmp_path: Path, text: str, key: str) -> None:
    path = tmp_path / "a.toml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=f"{key}: expected text without the character 0"):
        load_config(path, env={}, overrides={})
