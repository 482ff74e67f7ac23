"""Sensors that are packages of npm. `make sensors` installs them into `FOLDER` and runs these."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

#: Has ``node_modules``; set by `make sensors` alone, as they are 117 MB.
FOLDER = Path(os.environ.get("EDGE_AGENT_NPM", "")).absolute()
needs_npm = pytest.mark.skipif(
    "EDGE_AGENT_NPM" not in os.environ, reason="run by `make sensors`, which fetches Node-RED"
)
