from __future__ import annotations

import pytest

from tests.release import NotReady, check_changelog, part_of


@pytest.mark.parametrize(
    "sections",
    [
        "## [0.2.0] - 2026-11-29\n\n- News.\n\n## [0.1.0] - 2026-01-01\n",
        "## [Unreleased]\n\n## [0.2.0] - 2026-11-29\n\n- News.\n",
    ],
)
def test_a_changelog_whose_newest_section_is_the_version_is_ready(sections: str) -> None:
    check_changelog(f"# Changelog\n\nWords.\n\n{sections}", "0.2.0")


@pytest.mark.parametrize(
    "sections, reason",
    [
        ("", "newest section"),
        ("## [0.1.0] - 2026-01-01\n", "newest section"),
        ("## [0.2.1] - 2026-01-02\n\n## [0.2.0] - 2026-01-01\n", "newest section"),
        ("## [Unreleased]\n\n### Added\n\n- More.\n\n## [0.2.0] - 2026-01-01\n", "Unreleased"),
        ("## [0.2.0]\n\n- News.\n", "no date"),
    ],
)
def test_a_changelog_that_is_not_ready_says_what_is_missing(sections: str, reason: str) -> None:
    with pytest.raises(NotReady, match=reason):
        check_changelog(f"# Changelog\n\n{sections}", "0.2.0")


def test_of_a_lock_the_entries_of_some_packages_are_taken_with_their_hashes() -> None:
    lock = (
        "# Made by 'make lock'.\n"
        "cffi==2.0 ; os_name == 'nt' \\\n    --hash=sha256:aa \\\n    --hash=sha256:bb\n"
        "trio==0.31 \\\n    --hash=sha256:cc\n"
        "trio-websocket==0.12 \\\n    --hash=sha256:dd\n"
    )
    assert part_of(lock, {"trio"}) == "trio==0.31 \\\n    --hash=sha256:cc\n"
    assert part_of(lock, {"cffi", "trio-websocket"}).count("--hash") == 3
