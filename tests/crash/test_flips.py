"""One in twenty of `make crash`'s flipped bits, and that a wrong outcome would be noticed."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest

from edge_agent.store import Engine
from tests.crash.flipped import AREAS, areas_of, place_of
from tests.crash.flips import Flip, prove, scratch, try_flip
from tests.crash.full_store import build
from tests.crash.proof import Scale

#: Apart from one another, so that they spread over the workers of `make test`.
SLICES = 3
TRIES = 51


@pytest.mark.parametrize("slice_", range(SLICES))
def test_a_flipped_bit_is_detected_or_means_nothing_and_costs_one_block_at_most(
    slice_: int,
) -> None:
    outcome = prove(Scale(TRIES, processes=1), seed=100 + slice_)
    assert outcome.failures == (), "\n".join((*outcome.lines, *outcome.failures))
    assert f"{TRIES} flips in a store 9" in outcome.lines[-1]


def test_a_signal_a_missing_block_and_a_wrong_record_would_be_noticed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with tempfile.TemporaryDirectory(dir=scratch()) as folder:
        base = Path(folder) / "base"
        held = build(base, 1)
        data = (base / "store" / "data.mdb").read_bytes()
        area = areas_of(base)["block pages"]
        at = next(begin for begin, name in area.names.items() if name == "block payload")
        flip = Flip("block pages", at * 8, place_of(area, at))
        assert try_flip(Path(folder), data, flip, held).outcome == "set aside"

        first, (last, digest) = next(iter(held.blocks["main"].items()))
        held.blocks["main"][first] = (last, digest ^ 1)
        assert "is not what was stored" in try_flip(Path(folder), data, flip, held).wrong
        held.blocks["main"][first] = (last, digest)

        held.last["main"] += 1
        assert "was acked" in try_flip(Path(folder), data, flip, held).wrong
        held.last["main"] -= 1

        monkeypatch.setattr(Engine, "read", lambda *_: os.abort())
        assert try_flip(Path(folder), data, flip, held).wrong == "ended by SIGABRT"


def test_each_area_has_names_for_what_its_bits_mean() -> None:
    with tempfile.TemporaryDirectory(dir=scratch()) as folder:
        build(Path(folder) / "base", 1)
        areas = areas_of(Path(folder) / "base")
    assert set(areas) == set(AREAS)
    meta = areas["meta pages"]
    assert place_of(meta, 4096 + 144) == "commit number"
    assert place_of(meta, 2000) == "unused"
    kinds = set(areas["branch and leaf pages"].names.values())
    assert {"branch: key", "leaf: node header", "leaf: page number", "free: leaf: value"} <= kinds
