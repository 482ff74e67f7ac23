from __future__ import annotations

import json
import re
from pathlib import Path

from systemd.deb.sbom import STATIC, bill
from systemd.deb.targets import Target
from tests.systemd.deb.test_wheels import wheel

HERE = Target("bookworm", "arm64")


def made(folder: Path) -> str:
    agent = wheel(folder, "agent", "a", "b; os_name == 'nt'")
    return bill(
        agent, [wheel(folder, "a", "c"), wheel(folder, "c")], HERE, "1-1+deb12", 1_700_000_000
    )


def test_it_has_what_the_schema_asks_for_and_every_reference_leads_somewhere(
    tmp_path: Path,
) -> None:
    text = json.loads(made(tmp_path))
    assert (text["bomFormat"], text["specVersion"], text["version"]) == ("CycloneDX", "1.6", 1)
    assert re.fullmatch(r"urn:uuid:[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", text["serialNumber"])
    assert text["metadata"]["timestamp"] == "2023-11-14T22:13:20Z"
    root = text["metadata"]["component"]["bom-ref"]
    assert root == "pkg:deb/edge-agent@1-1%2Bdeb12?arch=arm64"
    refs = [root, *(one["bom-ref"] for one in text["components"])]
    assert len(set(refs)) == len(refs)
    needs = {one["ref"]: one["dependsOn"] for one in text["dependencies"]}
    assert needs[root] == ["pkg:pypi/a@1.0", refs[-1]] and needs["pkg:pypi/a@1.0"] == [refs[2]]
    assert needs.keys() == set(refs[:-1])
    for one in text["components"]:
        [digest] = one["hashes"]
        assert len(digest["content"]) == {"SHA-256": 64, "SHA-512": 128}[digest["alg"]]


def test_what_the_page_takes_from_others_is_in_it(tmp_path: Path) -> None:
    last = json.loads(made(tmp_path))["components"][-1]
    begin = (STATIC / "uplot.min.js").read_text()[:200]
    assert f"v{last['version']}" in begin and last["purl"].startswith("pkg:npm/uplot@")


def test_the_same_package_has_the_same_bill(tmp_path: Path) -> None:
    assert made(tmp_path) == made(tmp_path)
