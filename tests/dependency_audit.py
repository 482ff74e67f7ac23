"""``make audit``: whether anything in the locks has a known weakness.

Two sources, for two situations. Where the network allows it pip-audit asks PyPI, or else OSV, about
every pin. Always, the pins are held against ``tests/advisories.json``: the advisories of the PyPA
database (github.com/pypa/advisory-database) about these packages, as of the day that it says.
Exit code 1: a weakness is known. That nobody could be asked is told, and is no failure: a build
must not be red because a line is down, nor green because nobody looked at what is known anyway.

    python -m tests.dependency_audit                  # what `make audit` runs
    python -m tests.dependency_audit --renew CLONE    # the file anew, from a clone of the database
"""

from __future__ import annotations

import argparse
import datetime as dt
import importlib
import json
import re
import subprocess
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parent.parent
LOCKS = (ROOT / "requirements.lock", ROOT / "requirements-dev.lock")
KEPT = Path(__file__).with_name("advisories.json")
#: Weaknesses that do nothing here, by any of their ids, and why. A test asks for the reason.
ACCEPTED: dict[str, str] = {}
SERVICES = ("pypi", "osv")
ASK_S = 300.0


@dataclass(frozen=True)
class Advisory:
    """``ranges``: introduced, fixed ("" where nothing is), both as versions; ``ids``: its own, then
    its others.
    """

    ids: tuple[str, ...]
    name: str
    ranges: tuple[tuple[str, str], ...]

    def concerns(self, version: str) -> bool:
        """Whether that version has it."""
        at = Version(version)
        return any(
            Version(introduced) <= at and (not fixed or at < Version(fixed))
            for introduced, fixed in self.ranges
        )


def pins(texts: Iterable[str]) -> dict[str, str]:
    """Every package of the locks and its version."""
    found = (re.findall(r"^([a-zA-Z0-9._-]+)==([^ ;\\]+)", text, re.MULTILINE) for text in texts)
    return {canonicalize_name(name): version for each in found for name, version in each}


def kept(file: Path = KEPT) -> tuple[str, list[Advisory]]:
    """The advisories in the file, and until when it knows any."""
    held = json.loads(file.read_text())
    return held["as_of"], [
        Advisory(tuple(one["ids"]), one["name"], tuple((a, b) for a, b in one["ranges"]))
        for one in held["advisories"]
    ]


def by_file(wanted: dict[str, str], advisories: Iterable[Advisory]) -> Iterator[str]:
    """What the file knows about these versions."""
    for one in advisories:
        version = wanted.get(one.name)
        if version is not None and one.concerns(version) and not ACCEPTED.keys() & set(one.ids):
            yield f"{one.name} {version}: {', '.join(one.ids)}"


def by_asking(program: Sequence[str]) -> tuple[list[str], str]:
    """What pip-audit (``program``) was told by the first service that answered; why none did."""
    problem = ""
    locks = [word for lock in LOCKS for word in ("--requirement", str(lock))]
    for service in SERVICES:
        command = [*program, "--disable-pip", "--no-deps", "--require-hashes", *locks]
        command += ["--format", "json", "--progress-spinner", "off", "--vulnerability-service"]
        try:
            done = subprocess.run(
                [*command, service], capture_output=True, text=True, timeout=ASK_S, check=False
            )
            answers = json.loads(done.stdout)["dependencies"]
        except (ValueError, KeyError, subprocess.TimeoutExpired):
            problem = f"{service} does not answer"
            continue
        except OSError:
            return [], "pip-audit cannot be started"
        # One that answers "not found" about everything is no service but a mirror without the data.
        if all("skip_reason" in one for one in answers):
            problem = f"{service} knows none of these packages"
            continue
        return list(_told(answers)), ""
    return [], problem


def _told(answers: Iterable[dict[str, Any]]) -> Iterator[str]:
    for one in answers:
        for weakness in one.get("vulns", ()):
            ids = [weakness["id"], *weakness.get("aliases", ())]
            if not ACCEPTED.keys() & set(ids):
                better = ", ".join(weakness.get("fix_versions", ())) or "nothing yet"
                yield f"{one['name']} {one['version']}: {', '.join(ids)}; mended in {better}"


def renewed(clone: Path, wanted: Iterable[str]) -> list[Advisory]:
    """The advisories about these packages in a clone of the database."""
    yaml = importlib.import_module("yaml")  # It has no types, and only this needs it.
    made: list[Advisory] = []
    for name in sorted(wanted):
        for file in sorted((clone / "vulns" / name).glob("*.yaml")):
            held = yaml.safe_load(file.read_text())
            if held.get("withdrawn"):
                continue
            ranges = tuple(
                pair
                for affected in held["affected"]
                if canonicalize_name(affected["package"]["name"]) == name
                for one in affected.get("ranges", ())
                if one["type"] == "ECOSYSTEM"
                for pair in _pairs(one["events"])
            )
            made.append(Advisory((held["id"], *held.get("aliases", ())), name, ranges))
    return made


def _pairs(events: Sequence[dict[str, str]]) -> Iterator[tuple[str, str]]:
    introduced = None
    for event in events:
        if "introduced" in event:
            introduced = event["introduced"]
        elif introduced is not None:
            yield introduced, event.get("fixed", f"{event.get('last_affected', '')}.post999")
            introduced = None
    if introduced is not None:
        yield introduced, ""


def main() -> int:
    """The command; its exit code."""
    parser = argparse.ArgumentParser(description="Look for known weaknesses in the locks.")
    parser.add_argument("--pip-audit", nargs="*", default=(), metavar="WORD", help="How to run it.")
    parser.add_argument("--renew", type=Path, metavar="CLONE")
    given = parser.parse_args()
    wanted = pins(lock.read_text() for lock in LOCKS)
    if given.renew is not None:
        command = ["git", "-C", str(given.renew), "log", "-1", "--format=%cI"]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        as_of = dt.datetime.fromisoformat(done.stdout.strip()).date().isoformat()
        lines = ",\n".join(json.dumps(asdict(one)) for one in renewed(given.renew, wanted))
        KEPT.write_text(f'{{"as_of": "{as_of}", "advisories": [\n{lines}\n]}}\n')
    as_of, advisories = kept()
    found = list(by_file(wanted, advisories))
    print(
        f"{len(wanted)} packages; {len(advisories)} advisories known on {as_of}: {len(found)} met"
    )
    if given.pip_audit:
        told, problem = by_asking(given.pip_audit)
        unseen = f"{problem}: what became known after {as_of} was not looked for"
        print(f"asked: {unseen if problem else f'{len(told)} weaknesses'}")
        found += told
    for line in found:
        print(f"  {line}")
    return 1 if found else 0


if __name__ == "__main__":
    raise SystemExit(main())
