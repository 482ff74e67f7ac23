"""The dashboard: it is what the code writes, and names nothing that the agent does not show."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from edge_agent.metrics import TABLE
from edge_agent.ops.grafana import ROWS, dashboard, named_in
from tests.ops.real import agent

FILE = Path(__file__).parent.parent.parent / "docs" / "grafana" / "edge-agent.json"
SHOWN = json.loads(FILE.read_text(encoding="utf-8"))
LABELS = {metric.name: {*metric.labels} for metric in TABLE}


def panels() -> list[dict[str, Any]]:
    return [one for panel in SHOWN["panels"] for one in (panel, *panel.get("panels", ()))]


def test_the_file_is_what_is_made_of_the_metrics_that_there_are() -> None:
    assert dashboard() == SHOWN, "docs/grafana/edge-agent.json is stale: make docs"


async def test_every_expression_names_metrics_that_the_agent_shows_and_all_of_them_are_named(
    tmp_path: Path,
) -> None:
    async with agent(tmp_path) as running:
        _, _, text = await running.get("/metrics")
    there = set(re.findall(r"^# TYPE (\w+) ", text.decode(), re.MULTILINE))
    expressions = [target["expr"] for panel in panels() for target in panel.get("targets", ())]
    named = {name for one in expressions for name in re.findall(r"edge_agent_\w+", one)}
    assert named == there


def test_every_label_of_an_expression_and_its_legend_is_one_of_its_metrics() -> None:
    for _, row in ROWS:
        for panel in row:
            for expression, legend in panel.expressions:
                names = named_in(expression)
                assert names, expression
                known = set.union(*(LABELS[name] for name in names)) | {"instance"}
                by = re.findall(r"(?:by|on) \(([^)]*)\)", expression)
                used = {label.strip() for labels in by for label in labels.split(",")}
                assert used | {*re.findall(r"{{(\w+)}}", legend)} <= known, expression


def test_panels_have_numbers_and_places_of_their_own() -> None:
    numbers = [panel["id"] for panel in panels()]
    assert len(set(numbers)) == len(numbers)
    taken: set[tuple[int, int]] = set()
    for panel in panels():
        place = panel["gridPos"]
        cells = {
            (place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])
        }
        assert max(x for x, _ in cells) < 24 and not cells & taken, panel["title"]
        taken |= cells
