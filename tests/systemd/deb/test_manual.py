from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from edge_agent.cli import COMMANDS
from systemd.deb import manual

PAGES = manual.pages(1_700_000_000, "1.2.3")


def test_every_command_has_a_page_and_so_has_the_configuration() -> None:
    assert {f"edge-agent-{name}.1" for name in COMMANDS} < PAGES.keys()
    assert {"edge-agent.1", "edge-agent-config-init.1", "edge-agent.toml.5"} < PAGES.keys()


def test_a_page_says_what_help_says() -> None:
    page = PAGES["edge-agent-query.1"]
    assert page.startswith('.TH "EDGE\\-AGENT\\-QUERY" 1 "2023-11-14" "edge\\-agent 1.2.3"\n')
    assert "\n.TP\n.B \\-\\-step LENGTH\n" in page
    assert ".SH SYNOPSIS\n.B edge\\-agent query\n" in page
    assert ".BR edge\\-agent\\-query (1)\n" in PAGES["edge-agent.1"]


def test_no_line_of_a_text_is_taken_for_a_request() -> None:
    assert manual._roff(".TH\n'x' \\n -a") == "\\&.TH\n\\&'x' \\en \\-a"


@pytest.mark.needs("man")
def test_man_shows_every_page_without_a_warning(tmp_path: Path) -> None:
    for name, text in PAGES.items():
        path = tmp_path / name
        path.write_text(text)
        done = subprocess.run(
            ["man", "--warnings=w", "--encoding=UTF-8", "--local-file", str(path)],
            capture_output=True, text=True, check=True, env={"PATH": "/usr/bin"},
        )  # fmt: skip
        assert done.stderr == "", name
        assert re.search(r"^NAME", done.stdout, re.MULTILINE), name


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_shells_completion_can_be_read_by_it(shell: str) -> None:
    script = manual.completion(shell)
    assert "_EDGE_AGENT_COMPLETE" in script and "%(" not in script
    if shutil.which(shell):
        subprocess.run([shell, "-n"], input=script, text=True, check=True)
