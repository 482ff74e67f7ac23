from __future__ import annotations

import pytest

from edge_agent.config import parse
from edge_agent.errors import ConfigError

UPSTREAM = '[log.alarms]\nstreams = ["a/**"]\nshare = "10%"\n[[upstream]]\nname = "hub"\n'
UPSTREAM += 'url = "wss://h/forward"\n'


@pytest.mark.parametrize(
    "more, told",
    [
        ('logs = ["alarm"]', 'logs: expected names of logs that are configured, found "alarm"'),
        ('windows = ["1-4"]', 'windows: expected a window such as "01:00-04:00"'),
        ('windows = ["mo 01:00-04:00"]', "windows: expected days such as mon-fri or sat,sun"),
        ('always = ["alarms"]', "always: expected this key only beside windows, found none"),
        (
            'windows = ["01:00-04:00"]\nlogs = ["main"]\nalways = ["alarms"]',
            'always: expected logs that it is sent at all (logs), found "alarms"',
        ),
        ('start = "newest"', 'start: expected "oldest", "now", a time such as'),
    ],
)
def test_what_does_not_fit_is_told(more: str, told: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(UPSTREAM + more, "x.toml")
    assert f"upstream.hub.{told}" in str(caught.value)


@pytest.mark.parametrize(
    "more",
    [
        'logs = ["alarms"]\nstart = "now"',
        'windows = ["01:00-04:00", "sat,sun 00:00-24:00"]\nalways = ["alarms"]',
        'start = "2026-11-22T10:00:00Z"',
        'start = "-7d"',
    ],
)
def test_what_fits_loads(more: str) -> None:
    (upstream,) = parse(UPSTREAM + more, "x.toml").upstream
    assert upstream.name == "hub"
