from __future__ import annotations

import pytest

from edge_agent.store.settings import LogSettings, StoreSettings


def test_the_map_is_rounded_up_to_whole_pages_of_every_machine() -> None:
    assert StoreSettings(size=1_000_000).map_size == 1_048_576
    assert StoreSettings(size=2 * 65_536 * 8).map_size == 2 * 65_536 * 8


def test_shares_above_what_leaves_headroom_are_our_own_mistake() -> None:
    with pytest.raises(AssertionError, match="80 %"):
        StoreSettings(logs=(LogSettings("main", share=0.5), LogSettings("a", share=0.4)))


def test_main_is_never_missing() -> None:
    with pytest.raises(AssertionError):
        StoreSettings(logs=(LogSettings("alarms"),))


def test_a_log_that_is_no_longer_configured_has_no_share_and_yields() -> None:
    settings = StoreSettings(logs=(LogSettings("main", keep_s=60.0),))
    gone = settings.log("gone")
    assert (gone.share, gone.when_full, gone.keep_s) == (0.0, "discard-oldest", 60.0)
    assert settings.share_bytes("main") == int(0.7 * settings.map_size)
