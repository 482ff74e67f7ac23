"""What is inside as CycloneDX 1.6, the list that scanners of weaknesses read."""

from __future__ import annotations

import base64
import json
import re
import uuid
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any, Final

from systemd.deb.targets import Target
from systemd.deb.wheels import ROOT, Wheel

#: The page's part, where what others wrote is named with the hash of its npm package.
STATIC: Final = ROOT / "edge_agent/ops/page/static"


def bill(agent: Wheel, others: Iterable[Wheel], target: Target, version: str, epoch: int) -> str:
    """The agent, and each wheel beside it with the hash that the lock asked for and its needs."""
    others = list(others)
    root = f"pkg:deb/edge-agent@{version.replace('+', '%2B')}?arch={target.machine}"
    names = {one.name: _purl(one) for one in others}
    body: dict[str, Any] = {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        # The same package has the same number: made of its name, and not by chance.
        "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, f'{root}#{epoch}')}",
        "version": 1,
        "metadata": {
            "timestamp": f"{datetime.fromtimestamp(epoch, UTC):%Y-%m-%dT%H:%M:%SZ}",
            "component": {
                "type": "application",
                "bom-ref": root,
                "name": "edge-agent",
                "version": version,
                "purl": root,
                "licenses": [{"license": {"id": "Apache-2.0"}}],
            },
        },
        "components": [
            {
                "type": "library",
                "bom-ref": _purl(one),
                "name": one.name,
                "version": one.version,
                "purl": _purl(one),
                "licenses": [_licence(one)],
                "hashes": [{"alg": "SHA-256", "content": one.sha256}],
                "properties": [{"name": "edge-agent:wheel", "value": one.path.name}],
            }
            for one in others
        ]
        + [_uplot()],
        "dependencies": [
            {"ref": root, "dependsOn": [*_needs(agent, names, target), _uplot()["purl"]]},
            *({"ref": _purl(one), "dependsOn": _needs(one, names, target)} for one in others),
        ],
    }
    return json.dumps(body, indent=2, ensure_ascii=False) + "\n"


def _needs(wheel: Wheel, names: dict[str, str], target: Target) -> list[str]:
    return sorted({names[name] for name in wheel.needs(target)})


def _uplot() -> dict[str, Any]:
    """What draws the page's charts, the one library that is no wheel."""
    text = (STATIC / "README.md").read_text()
    version = re.search(r"uPlot (\d+\.\d+\.\d+) ", text)
    integrity = re.search(r"sha512-([\w+/=]+)", text)
    assert version and integrity
    ref = f"pkg:npm/uplot@{version[1]}"
    return {
        "type": "library",
        "bom-ref": ref,
        "name": "uplot",
        "version": version[1],
        "purl": ref,
        "licenses": [{"license": {"id": "MIT"}}],
        "hashes": [{"alg": "SHA-512", "content": base64.b64decode(integrity[1]).hex()}],
    }


def _purl(wheel: Wheel) -> str:
    return f"pkg:pypi/{wheel.name}@{wheel.version}"


def _licence(wheel: Wheel) -> dict[str, Any]:
    expression = wheel.metadata["License-Expression"]
    return {"expression": expression} if expression else {"license": {"name": wheel.licence}}
