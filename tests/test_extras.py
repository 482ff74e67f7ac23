"""What an error says of a library that is missing."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from edge_agent.extras import DEB_PREFIX, LIBRARIES, library_needed
from systemd.deb.package import HOME

ROOT = Path(__file__).parent.parent


def test_the_libraries_are_those_of_the_project_s_extras() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    assert {name: [library] for name, library in LIBRARIES.items()} == {
        name: extras[name] for name in extras if name not in ("dev", "docs")
    }


@pytest.mark.parametrize(
    "prefix, has_pip, line",
    [
        ("/opt/edge-agent", True, '/opt/edge-agent/bin/python -m pip install "paho-mqtt>=2.1"'),
        ("/x", False, 'python3 -m pip --python /x/bin/python install "paho-mqtt>=2.1"'),
    ],
)
def test_the_line_is_for_the_environment_that_asks(prefix: str, has_pip: bool, line: str) -> None:
    told = library_needed("mqtt", prefix, has_pip=has_pip)
    assert told == f"the library paho-mqtt ({line})"


def test_the_line_for_the_debian_package_is_that_of_its_documentation() -> None:
    assert f"/{HOME}" == DEB_PREFIX
    told = library_needed("mqtt", DEB_PREFIX, has_pip=False)
    commands = told.partition("as root: ")[2].removesuffix(")").split(" && ")
    page = (ROOT / "docs/install.md").read_text().splitlines()
    assert len(commands) == 2 and set(commands) <= set(page)
