"""The example package of docs/own-sink.md, installed into a folder as pip would do it."""

from __future__ import annotations

import shutil
import sys
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

HERE = Path(__file__).parent
MODULE = "edge_agent_spool"


@contextmanager
def installed(folder: Path, schemes: Mapping[str, str] | None = None) -> Iterator[None]:
    """While this lasts the package is on the path; ``schemes`` in place of its own entry points."""
    project = tomllib.loads((HERE / "pyproject.toml").read_text())["project"]
    entries = schemes or project["entry-points"]["edge_agent.sinks"]
    about = folder / f"{MODULE}-{project['version']}.dist-info"
    about.mkdir(parents=True)
    shutil.copy(HERE / f"{MODULE}.py", folder)
    (about / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n"
    )
    lines = [f"{name} = {value}" for name, value in entries.items()]
    (about / "entry_points.txt").write_text("\n".join(["[edge_agent.sinks]", *lines, ""]))
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        sys.path.remove(str(folder))
        sys.modules.pop(MODULE, None)
