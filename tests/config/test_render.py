from __future__ import annotations

import re
import tomllib

import pytest
from msgspec.structs import fields

from edge_agent.config import (
    Config,
    Http,
    Limits,
    Listen,
    LogConfig,
    Rule,
    StoreConfig,
    Upstream,
    WearConfig,
    parse,
    render_toml,
)
from tests.config.test_load import WHOLE


@pytest.mark.parametrize("text", ["", WHOLE, '[log."a.b"]\nshare = "5%"\n'])
def test_what_is_rendered_loads_back_to_an_equal_config(text: str) -> None:
    config = parse(text, "f")
    assert parse(render_toml(config), "rendered") == config


def test_every_key_of_every_table_is_shown() -> None:
    text = render_toml(parse(WHOLE, "f"))
    for kind in (Listen, Http, Limits, StoreConfig, LogConfig, WearConfig):
        for field in fields(kind):
            assert re.search(rf"^(# )?{field.name} = ", text, re.MULTILINE), field.name


def test_every_key_has_its_comment_and_its_unit() -> None:
    text = render_toml(Config())
    for line in text.splitlines():
        if re.match(r"(# )?\w+ = ", line):
            assert "  # " in line, line
    assert 'size = "1GiB"' in text
    assert 'keep = "30d"' in text
    assert 'share = "70%"' in text


def test_a_newcomer_sees_commented_examples_that_load_when_uncommented() -> None:
    text = render_toml(Config())
    assert "\n[[upstream]]" not in text
    examples = re.findall(
        r"^# (\[\[.*\]\]|\w+ = .+)$", text[text.index("# [[upstream]]") :], re.MULTILINE
    )
    config = parse("\n".join(examples), "examples")
    assert [upstream.name for upstream in config.upstream] == ["hub", "logs"]
    assert [rule.name for rule in config.rule] == ["tidy", "mute", "clock", "hourly", "hot"]


def test_a_newcomer_sees_every_key_of_upstreams_and_rules_with_default_and_limits() -> None:
    text = render_toml(Config())
    for kind in (Upstream, Rule):
        section = text[text.index(f"# [[{kind.__name__.lower()}]]") :]
        for field in fields(kind):
            assert re.search(rf"^# (# )?{field.name} = .*  # .", section, re.MULTILINE), field.name
    for line in (
        r'# batch_age = "1s" .*  # .*; 0s to 1d',
        r"# batch_records = 10000 .*  # .*; 1 to 1000000",
        r'# # token_file = "" *  # one line; .*',
        r'message_bytes = "1MiB" .*  # .*; 1KiB to 64MiB',
        r'keep = "30d" .*  # .*; 1s to 3660d',
        r'drain_timeout = "10s" .*  # .*; 100ms to 1h',
    ):
        assert re.search(f"^{line}$", text, re.MULTILINE), line


def test_configured_tables_take_the_place_of_the_examples() -> None:
    text = render_toml(parse(WHOLE, "f"))
    assert "hub.example" in text
    assert text.count("[[upstream]]") == 2
    assert text.count("[[rule]]") == 3


@pytest.mark.parametrize("path", ['with "quotes"', "back\\slash", "new\nline", "\x7f\x01", "grün"])
def test_text_is_quoted_as_toml_wants_it(path: str) -> None:
    config = Config(store=StoreConfig(path=path))
    assert tomllib.loads(render_toml(config))["store"]["path"] == path


def test_the_text_fits_a_terminal() -> None:
    assert max(len(line) for line in render_toml(Config()).splitlines()) <= 100
