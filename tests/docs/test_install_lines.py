"""No page, message or program tells anybody to have the agent from an index by its name.

Nothing is published under it, so an index can only have somebody else's.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from edge_agent.extras import LIBRARIES

ROOT = Path(__file__).parent.parent.parent
#: A line for pip or pipx up to its end, or that of its quotes, whatever line breaks are in it.
LINE = re.compile(r"\bpipx?(?:\s+-\S+)*\s+install\s[^`]*?(?=`|\n\n|\n```|$)")
NAME = re.compile(r"(?<![\w./-])trio[-_]edge[-_]agent(?:[-_]client)?(?![\w.*]|-[\d*])")
TOLD = [
    ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(ROOT.glob("docs/**/*.md")),
    *sorted(ROOT.glob("edge_agent/**/*.md")), *sorted(ROOT.glob("edge_agent/**/*.py")),
    *sorted(ROOT.glob("systemd/**/*")),
]  # fmt: skip


def asks_for_it(text: str) -> list[str]:
    lines = (found[0] for found in LINE.finditer(text))
    return [line for line in lines if NAME.search(line) and "--no-index" not in line]


@pytest.mark.parametrize(
    "line, asks",
    [
        ('pip install "trio-edge-agent[cel]"', True),
        ("pip\ninstall trio-edge-agent", True),
        ("pipx install trio_edge_agent", True),
        ("pip install dist/trio_edge_agent-0.1.0-py3-none-any.whl", False),
        ("pip install trio_edge_agent_client-*.whl", False),
        ("pip install --no-index --find-links DIR trio-edge-agent", False),
    ],
)
def test_what_asks_an_index_is_known(line: str, asks: bool) -> None:
    assert bool(asks_for_it(line)) is asks


def test_nobody_is_told_to_ask_an_index_for_the_agent() -> None:
    told = {path: asks_for_it(path.read_text()) for path in TOLD if path.is_file()}
    # What is refused in so many words is no advice.
    refused = "pip install trio-edge-agent` without a file**"
    told[ROOT / "docs/install.md"] = asks_for_it(
        (ROOT / "docs/install.md").read_text().replace(refused, "")
    )
    assert not {path: lines for path, lines in told.items() if lines}


def test_no_plug_in_of_ours_depends_on_the_name() -> None:
    for page in (ROOT / "docs/own-sink.md", ROOT / "tests/own_sink/pyproject.toml"):
        assert not re.search(r"dependencies = .*trio-edge-agent", page.read_text())


def test_libraries_that_a_page_names_are_the_extras() -> None:
    pages = "".join(path.read_text() for path in sorted(ROOT.glob("docs/**/*.md")))
    for extra in ("arrow", "cel", "kafka", "mqtt", "postgres"):
        assert f'bin/pip install "{LIBRARIES[extra]}"' in pages
