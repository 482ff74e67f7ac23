"""Steps that take nested messages apart: into named fields, or into all of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from edge_agent.rules.steps import Act, Fields, Outcome, Spot, Unfit
from edge_agent.values.field_path import MISSING, look_up, parse_path

_Paths = Iterable[tuple[str, tuple[str, ...]]]


def picker(pick: Mapping[str, str | Mapping[str, str]], into: str | None) -> Act:
    """Fields by paths, in the message's own stream, in one below it (``into``), or in several.

    A path that leads nowhere gives no field, and a record without any field is none. The time goes
    with each, unless a path says which.
    """
    own = {name: path for name, path in pick.items() if isinstance(path, str)}
    tables = {key: paths for key, paths in pick.items() if not isinstance(paths, str)}
    told = tables or {into or "{stream}": own}
    targets = [
        (key.removeprefix("{stream}"), [(name, parse_path(path)) for name, path in paths.items()])
        for key, paths in told.items()
    ]

    def act(fields: Fields, spot: Spot) -> Outcome:
        found = []
        for below, paths in targets:
            picked = _picked(fields, paths)
            if picked:
                found.append((spot.stream + below, picked))
        return found or None

    return act


def _picked(fields: Fields, paths: _Paths) -> Fields:
    picked: Fields = {}
    for name, path in paths:
        value = look_up(fields, path)
        if value is not MISSING:
            picked[name] = value
    if picked.keys() <= {"time"}:
        return {}
    if "time" in fields and "time" not in picked:
        picked["time"] = fields["time"]
    return picked


def flattener(between: str) -> Act:
    """Every value of a map within the record becomes a field of it; lists stay what they are."""

    def act(fields: Fields, spot: Spot) -> Outcome:
        if not any(isinstance(value, dict) and name != "time" for name, value in fields.items()):
            return fields
        flat: Fields = {}
        for name, value in fields.items():
            if isinstance(value, dict) and name != "time":
                flat.update(flattened(value, between, spot.size_max, name + between))
            else:
                flat[name] = value
        return flat

    return act


def flattened(
    fields: Mapping[Any, Any], between: str, size_max: int, head: str = ""
) -> dict[str, Any]:
    """The values of maps within one another, by their names joined; an empty map gives none.

    A name of 30 KB above 3,000 values is 90 MB of names, of 45 KB that were sent: no more of them
    are made than ``size_max``, which is what a record may have.

    Raises:
        Unfit: the names are longer.
    """
    flat: dict[str, Any] = {}
    room = size_max

    def add(values: Mapping[Any, Any], head: str) -> None:
        nonlocal room
        room -= len(head) * len(values)
        if room < 0:
            raise Unfit(
                "too_big",
                f"what is nested, by names joined with {between!r}, has more than the {size_max}"
                " bytes that a record may have",
            )
        for name, value in values.items():
            if isinstance(value, dict):
                add(value, f"{head}{name}{between}")
            else:
                flat[f"{head}{name}"] = value

    add(fields, head)
    return flat
