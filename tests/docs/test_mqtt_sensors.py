"""What ``docs/mqtt-sensors.md`` shows comes of what devices say."""

from __future__ import annotations

import json
import re

from edge_agent.cli.sensor.mqtt_messages import fields_of, stream_of
from edge_agent.config import Limits, parse
from edge_agent.metrics import Metrics
from edge_agent.rules import Trial, compile_rules
from edge_agent.wire import Arrival, WireLimits
from tests.docs.examples import DOCS, examples_of
from tests.waist import NOW_NS

PAGE = "mqtt-sensors.md"
_LINE = re.compile(r"^([>=]) (\S+) (.+)$", re.MULTILINE)


def test_the_rules_make_of_each_device_what_the_page_says() -> None:
    (example,) = examples_of(PAGE, "toml")
    rules = compile_rules(
        parse(example.code, "").rule, Metrics(), limits=Limits(), timer=lambda: 0.0
    )
    trial, found, wanted = Trial(rules, WireLimits()), [], []
    for mark, name, text in _LINE.findall((DOCS / PAGE).read_text()):
        if mark == "=":
            wanted.append((name, json.loads(text)))
            continue
        fields = fields_of(text.encode())
        stream = stream_of("{topic}", name)
        arrival = Arrival(stream, "mqtt", NOW_NS, synced=True, time_key=rules.time_key)
        for tried in trial.try_message(json.dumps(fields), arrival):
            assert not tried.set_aside
            found += [(one.stream, one.fields) for one in tried.stored]
    assert len(wanted) == 4 and found == wanted
