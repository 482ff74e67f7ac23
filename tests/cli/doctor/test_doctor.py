"""`edge-agent doctor`: a real run, and one in which things are wrong."""

from __future__ import annotations

import json
from pathlib import Path

from click.testing import CliRunner, Result

from edge_agent.cli.doctor.doctor import command


def run(*arguments: str) -> Result:
    return CliRunner().invoke(command, [*arguments])


def config(tmp_path: Path, text: str = "") -> str:
    file = tmp_path / "a.toml"
    ports = '[listen]\naddress = "127.0.0.1:0"\n[http]\naddress = "127.0.0.1:0"\n'
    file.write_text(f'{ports}[store]\nsize = "16MiB"\n{text}')
    return str(file)


def test_a_machine_that_is_well_has_no_failure_and_every_line_says_something(
    tmp_path: Path,
) -> None:
    done = run("--config", config(tmp_path), "--data", str(tmp_path / "new"), "--json")
    found = json.loads(done.stdout)
    verdicts = {one["name"]: one["verdict"] for one in found}
    # Where tests run in memory or on a container's overlay, that is told, and rightly.
    failed = {name for name, verdict in verdicts.items() if verdict == "fail"}
    assert failed <= {"file system"}, found
    assert done.exit_code == bool(failed)
    assert len(found) == len(verdicts) >= 18
    assert all(one["found"] for one in found)
    assert all(bool(one["fix"]) == (one["verdict"] != "ok") for one in found)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["a.toml"]


def test_what_fails_is_named_with_a_fix_and_the_exit_code_says_so(tmp_path: Path) -> None:
    text = '[[upstream]]\nname = "hub"\nurl = "ws://127.0.0.1:1/forward"\n'
    file = config(tmp_path, text)
    done = run("--config", file, "--data", str(tmp_path / "new"))
    assert done.exit_code == 1
    assert "upstream hub" in done.output and "→ is it running" in done.output
    assert "checks failed" in done.output and done.output.endswith("upstream hub\n")
    offline = run("--config", file, "--data", str(tmp_path / "new"), "--offline")
    assert "upstream hub" not in offline.output


def test_a_configuration_that_cannot_be_used_does_not_keep_the_rest_from_being_checked(
    tmp_path: Path,
) -> None:
    file = config(tmp_path, 'nonsense = "yes"\n')
    done = run("--config", file, "--data", str(tmp_path / "new"), "--json", "--offline")
    found = {one["name"]: one for one in json.loads(done.stdout)}
    assert done.exit_code == 1 and "nonsense" in found["configuration"]["found"]
    assert {"store", "sync latency", "systemd"} <= set(found)
