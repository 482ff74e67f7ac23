from __future__ import annotations

import datetime as dt
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from tests import dependency_audit
from tests.dependency_audit import (
    ACCEPTED,
    LOCKS,
    Advisory,
    by_asking,
    by_file,
    kept,
    main,
    pins,
    renewed,
)

OLD = Advisory(("PYSEC-1", "CVE-1"), "h11", (("0", "0.15"), ("0.17", "")))


def pip_audit(folder: Path, answers: dict[str, Any]) -> list[str]:
    """A stand-in that answers as each service does; None: it fails as without a network."""
    program = folder / "fake.py"
    program.write_text(
        "import json, sys\n"
        f"answer = json.loads({json.dumps(json.dumps(answers))})[sys.argv[-1]]\n"
        "assert '--require-hashes' in sys.argv\n"
        "sys.exit('no network') if answer is None else print(json.dumps(answer))\n"
    )
    return [sys.executable, str(program)]


SKIPPED = {"dependencies": [{"name": "h11", "skip_reason": "not found on PyPI"}]}
GOOD = {"dependencies": [{"name": "h11", "version": "0.16", "vulns": []}]}
BAD = {
    "dependencies": [
        {"name": "h11", "skip_reason": "not found"},
        {
            "name": "anyio",
            "version": "4.0",
            "vulns": [{"id": "PYSEC-2", "aliases": ["CVE-2"], "fix_versions": ["4.1"]}],
        },
    ]
}
TOLD = ["anyio 4.0: PYSEC-2, CVE-2; mended in 4.1"]


@pytest.mark.parametrize("version, has", [("0.14.9", True), ("0.15", False), ("0.18", True)])
def test_an_advisory_concerns_what_lies_in_its_ranges(version: str, has: bool) -> None:
    assert bool(list(by_file({"h11": version, "trio": "1"}, [OLD]))) is has


@pytest.mark.parametrize(
    "pypi, osv, told, problem",
    [
        (GOOD, None, [], ""),
        (BAD, None, TOLD, ""),
        (SKIPPED, BAD, TOLD, ""),
        (None, GOOD, [], ""),
        (SKIPPED, None, [], "osv does not answer"),
        (None, SKIPPED, [], "osv knows none of these packages"),
    ],
)
def test_the_first_service_that_answers_is_believed_and_none_is_no_weakness(
    pypi: Any, osv: Any, told: list[str], problem: str, tmp_path: Path
) -> None:
    assert by_asking(pip_audit(tmp_path, {"pypi": pypi, "osv": osv})) == (told, problem)


def test_without_pip_audit_it_says_so(tmp_path: Path) -> None:
    assert by_asking([str(tmp_path / "none")]) == ([], "pip-audit cannot be started")


def test_a_weakness_makes_it_red_unless_it_does_nothing_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    program = pip_audit(tmp_path, {"pypi": BAD, "osv": None})
    monkeypatch.setattr(sys, "argv", ["audit", "--pip-audit", *program])
    assert main() == 1 and TOLD[0] in capsys.readouterr().out
    monkeypatch.setitem(dependency_audit.ACCEPTED, "CVE-2", "it is not called here")
    assert main() == 0
    program = pip_audit(tmp_path, {"pypi": None, "osv": None})
    monkeypatch.setattr(sys, "argv", ["audit", "--pip-audit", *program])
    assert main() == 0 and "does not answer" in capsys.readouterr().out


def test_where_nobody_could_be_asked_it_says_what_was_not_looked_for(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    program = pip_audit(tmp_path, {"pypi": SKIPPED, "osv": None})
    monkeypatch.setattr(sys, "argv", ["audit", "--pip-audit", *program])
    assert main() == 0
    told = capsys.readouterr().out
    assert f"osv does not answer: what became known after {kept()[0]} was not looked for" in told


def test_it_is_said_until_when_the_file_knows_any() -> None:
    day = dt.date.fromisoformat(kept()[0])
    assert f"{day:%-d %B %Y}" in (LOCKS[0].parent / "SECURITY.md").read_text()


def test_what_is_locked_has_no_weakness_that_is_known_here() -> None:
    as_of, advisories = kept()
    wanted = pins(lock.read_text() for lock in LOCKS)
    assert len(wanted) > 50 and len(as_of) == 10 and len(advisories) > 10
    assert list(by_file(wanted, advisories)) == []
    assert all(len(reason) > 10 for reason in ACCEPTED.values())


def test_the_file_is_made_from_a_clone_of_the_database(tmp_path: Path) -> None:
    folder = tmp_path / "vulns" / "h11"
    folder.mkdir(parents=True)
    (folder / "PYSEC-1.yaml").write_text(
        "id: PYSEC-1\naliases: [CVE-1]\naffected:\n- package: {name: H11, ecosystem: PyPI}\n"
        "  ranges:\n  - type: GIT\n    events: [{introduced: abc}]\n  - type: ECOSYSTEM\n"
        "    events: [{introduced: '0'}, {fixed: '0.15'}, {introduced: '0.17'}]\n"
    )
    (folder / "PYSEC-9.yaml").write_text("id: PYSEC-9\nwithdrawn: yes\naffected: []\n")
    assert renewed(tmp_path, ["h11", "trio"]) == [OLD]
