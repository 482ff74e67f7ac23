from __future__ import annotations

import pytest

from edge_agent.config import parse, with_sending
from edge_agent.errors import ConfigError

HUB = '[[upstream]]\nname = "hub"\nurl = "wss://h/forward"\n'


def test_means_are_a_rule_and_its_streams() -> None:
    text = HUB + 'streams = ["greenhouse/**", "$rule/x/**"]\nsend = "1m means"\n'
    config = with_sending(parse(text, "x"))
    (rule,), (upstream,) = config.rule, config.upstream
    assert (rule.name, rule.window, rule.into) == ("send-1m", 60.0, "1m/{stream}")
    assert rule.streams == ("greenhouse/**", "$rule/x/**")
    assert upstream.streams == ("1m/greenhouse/**", "1m/rule/x/**")
    assert with_sending(config) == config


def test_records_are_sent_as_they_are() -> None:
    config = parse(HUB, "x")
    assert with_sending(config) == config


def test_two_upstreams_share_what_one_rule_writes() -> None:
    text = HUB + 'send = "1h means"\n'
    config = with_sending(parse(text + text.replace('"hub"', '"other"'), "x"))
    assert [rule.name for rule in config.rule] == ["send-1h"]
    assert [one.streams for one in config.upstream] == [("1h/**",)] * 2


@pytest.mark.parametrize(
    "text, told",
    [
        (HUB + 'send = "minutes"', 'upstream.hub.send: expected "records", or how long each mean'),
        (HUB + 'send = "1 means"', 'upstream.hub.send: expected "records", or how long each mean'),
        (HUB + 'send = "10ms means"', "upstream.hub.send: expected means over 1s to 366d"),
        (
            HUB + 'send = "1m means"\n[[rule]]\nname = "send-1m"\nstreams = ["a"]\ndrop = ["x"]',
            "upstream.hub.send: expected no rule called send-1m",
        ),
        (
            HUB + 'send = "1m means"\n' + HUB.replace("hub", "two") + 'send = "1m means"\n'
            'streams = ["a/**"]',
            "upstream.two.streams: expected the streams of hub",
        ),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_told(text: str, told: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(text, "x")
    assert told in str(caught.value)
