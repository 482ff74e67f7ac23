"""Tests in emulation: ``make arm64`` makes everything for them; other runs pass them over."""

import os

#: The folder with what make made: the package in "debs", and "root", a file system.
collect_ignore_glob = [] if "EDGE_AGENT_ARM64" in os.environ else ["test_*.py"]
