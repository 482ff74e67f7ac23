"""Coverage by package: ``coverage json -o - | python -m tests.covered``; see ``make coverage``."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Mapping
from pathlib import PurePath
from typing import Any


def by_package(files: Mapping[str, Mapping[str, Any]]) -> dict[str, float]:
    """The percentage of statements and branches that ran, of each package and of all."""
    ran: Counter[str] = Counter()
    there: Counter[str] = Counter()
    for name, file in files.items():
        figures = file["summary"]
        for package in (str(PurePath(name).parent), "all"):
            ran[package] += figures["covered_lines"] + figures["covered_branches"]
            there[package] += figures["num_statements"] + figures["num_branches"]
    return {package: 100 * ran[package] / max(1, there[package]) for package in sorted(there)}


if __name__ == "__main__":
    for package, percent in by_package(json.load(sys.stdin)["files"]).items():
        print(f"{percent:5.1f} %  {package}")
