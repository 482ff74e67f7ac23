"""``edge-agent rules test``."""

from __future__ import annotations

import json
from pathlib import Path

from click.testing import CliRunner

from edge_agent.cli import main

CONFIG = """
[[rule]]
name = "shelly"
streams = ["shelly/*"]
profile = "shelly-gen2"

[[rule]]
name = "calm"
streams = ["shelly/*/switch0"]
deadband = { apower = 0.5 }

[[rule]]
name = "sane"
streams = ["shelly/*/switch0"]
schema = { ranges = { apower = [0, 3000] } }
"""
LINES = "\n".join(
    json.dumps({"method": "NotifyStatus", "params": {"ts": 1781186545, "switch:0": {"apower": w}}})
    for w in (8.9, 9.0, 9000)
)


def run(
    tmp_path: Path, *arguments: str, config: str = CONFIG, lines: str = LINES
) -> tuple[int, str]:
    file = tmp_path / "agent.toml"
    file.write_text(config)
    done = CliRunner().invoke(main, ["rules", "test", str(file), *arguments], input=lines)
    return done.exit_code, done.output


def test_each_record_shows_what_would_be_stored_or_why_not(tmp_path: Path) -> None:
    code, shown = run(tmp_path)
    assert code == 0 and run(tmp_path, "--stream", "") == (code, shown)
    stored, left_out, set_aside = (each for each in shown.splitlines() if each.startswith("  "))
    assert stored == '  = shelly/1/switch0 2026-06-11T14:02:25Z {"apower":8.9}'
    assert left_out.startswith("  - left out by the rule calm: deadband: changed by less")
    assert (
        set_aside == "  ! quarantine, bad_schema: rule sane: apower: expected 0 to 3000, got 9000"
    )


def test_the_same_as_json_from_a_file_for_a_stream(tmp_path: Path) -> None:
    (tmp_path / "lines").write_text(LINES + "\n\n{")
    code, shown = run(
        tmp_path, "--json", "--stream", "shelly/kitchen", "--input", str(tmp_path / "lines")
    )
    told = [json.loads(line) for line in shown.splitlines()]
    assert code == 0 and [one["number"] for one in told] == [1, 2, 3, 4]
    assert told[0]["stored"] == [
        {
            "stream": "shelly/kitchen/switch0",
            "time": "2026-06-11T14:02:25Z",
            "fields": {"apower": 8.9},
        }
    ]
    assert told[1]["left_out"][0]["rule"] == "calm"
    assert told[2]["quarantine"][0]["code"] == "bad_schema"
    assert told[3]["quarantine"][0]["code"] == "undecodable" and told[3]["sent"] is None


def test_a_bad_configuration_is_exit_code_2(tmp_path: Path) -> None:
    code, shown = run(tmp_path, config='[[rule]]\nname = "x"\nstreams = ["a"]\n')
    assert code == 2 and "expected exactly one of rename" in shown
    bad_hook = '[[rule]]\nname = "x"\nstreams = ["a"]\nhook = "no_such_module_here:f"\n'
    code, shown = run(tmp_path, config=bad_hook)
    assert code == 2 and "rule.x.hook" in shown
    assert run(tmp_path, "--stream", "a b")[0] == 2


def test_what_acts_after_storing_is_named_as_not_tried(tmp_path: Path) -> None:
    more = """
[[rule]]
name = "hourly"
streams = ["**"]
window = "1h"
into = "{stream}/1h"
"""
    assert (
        "not tried, as they act after storing: hourly\n" in run(tmp_path, config=CONFIG + more)[1]
    )
    assert "not tried" not in run(tmp_path)[1]
