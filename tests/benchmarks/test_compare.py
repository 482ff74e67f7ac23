"""Two commits side by side: the right package, the right order, the right verdict."""

from __future__ import annotations

import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

from benchmarks import compare
from benchmarks.compare import (
    What,
    check_imports,
    drain,
    git,
    ingest,
    interleaved,
    is_worse,
    main,
    measure,
    measure_until,
    render,
    sensors,
    worktree,
)
from benchmarks.processes import ROOT

STEADY = [100.0, 101, 99, 100, 102, 98, 100, 101, 99, 100]


def test_neither_commit_always_comes_first() -> None:
    assert list(interleaved(4)) == [0, 1, 1, 0, 0, 1, 1, 0]
    assert sorted(interleaved(7)) == [0] * 7 + [1] * 7


@pytest.mark.parametrize(
    "factor, more_is_better, worse",
    [
        (0.9, True, True),
        (1.1, True, False),
        (1.1, False, True),
        (0.9, False, False),
        (1, True, False),
    ],
)
def test_a_clear_difference_is_judged_by_its_direction(
    factor: float, more_is_better: bool, worse: bool
) -> None:
    head = [factor * figure for figure in STEADY]

    assert is_worse(STEADY, head, more_is_better=more_is_better) == worse


def test_what_may_be_chance_or_is_within_the_margin_is_not_worse() -> None:
    noisy = [100.0, 60, 140, 90, 110, 70, 130, 95, 105, 80]
    barely = [figure - 2.5 for figure in STEADY]

    assert not is_worse(STEADY, noisy, more_is_better=True)
    assert not is_worse(STEADY, barely, more_is_better=True)
    assert is_worse(STEADY, barely, more_is_better=True, margin=0.01)


def test_runs_are_told_apart_and_each_has_an_empty_folder(tmp_path: Path) -> None:
    places: list[Path] = []

    def run(tree: Path, folder: Path) -> tuple[float, ...]:
        assert not folder.exists()
        folder.mkdir()
        places.append(tree)
        return (float(len(places)), 0.0)

    base, head = Path("base"), Path("head")
    found = measure(run, (base, head), tmp_path / "store", 2)

    assert places == [base, head, head, base]
    assert found == ([(1.0, 0.0), (4.0, 0.0)], [(2.0, 0.0), (3.0, 0.0)])


def noisy_runs(spread: float) -> compare.Run:
    """A head that is as fast as its base, its runs ``spread`` apart to either side in turn."""
    turns = {"base": 0, "head": 0}

    def run(tree: Path, folder: Path) -> tuple[float, ...]:
        turns[tree.name] += 1
        off = spread if tree.name == "head" and turns["head"] % 2 else 0.0
        return (100.0 * (1 + off / turns["head"] if off else 1.0),)

    return run


def test_pairs_are_added_until_the_interval_is_narrow_enough(tmp_path: Path) -> None:
    trees = (Path("base"), Path("head"))
    base, head = measure_until(
        noisy_runs(0.5), trees, tmp_path / "store", 6, width=0.03, rounds_max=60
    )

    assert 6 < len(base) == len(head) < 60
    low, middle, high = compare.ratio_of(base, head)
    assert high - low < 0.03
    assert low <= middle <= high


def test_adding_pairs_ends_at_its_bound(tmp_path: Path) -> None:
    trees = (Path("base"), Path("head"))
    base, _ = measure_until(
        noisy_runs(50.0), trees, tmp_path / "store", 4, width=1e-9, rounds_max=8
    )

    assert len(base) == 8


def test_the_table_has_medians_ratio_and_p() -> None:
    what = What(lambda tree, folder: (), ("records/s", "E"))
    base, head = [(100.0, 5.0)] * 3, [(50.0, 5.0)] * 3

    text = render(what, base, head, worse=True)

    assert "| records/s | 100 | 50 | 0.500 | 0.1000 |" in text
    assert "| E | 5 | 5 | 1.000 | 1.0000 |" in text
    assert "head / base of 3 pairs: 0.500, with 95 % within -inf to inf." in text
    assert "By records/s, the head is worse than its base." in text


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """Two commits of a package named as ours, whose versions differ."""
    path = tmp_path / "repository"
    (path / "edge_agent").mkdir(parents=True)
    git(path, "init", "--quiet")
    for version in ("1", "2"):
        (path / "edge_agent" / "__init__.py").write_text(f"__version__ = '{version}'\n")
        git(path, "add", ".")
        git(
            path, "-c", "user.name=t", "-c", "user.email=t@example.org",
            "commit", "--quiet", "-m", version,
        )  # fmt: skip
    return path


def test_a_worktree_has_its_own_package_and_is_gone_afterwards(
    repository: Path, tmp_path: Path
) -> None:
    def use(commit: str) -> str:
        with worktree(repository, commit, tmp_path / "tree") as tree:
            check_imports(tree)
            command = [
                *compare.python_of(tree),
                "-c",
                "import edge_agent as e; print(e.__version__)",
            ]
            return subprocess.run(
                command, capture_output=True, text=True, check=True
            ).stdout.strip()

    assert use("HEAD~1") == "1"
    assert use("HEAD") == "2"
    assert not (tmp_path / "tree").exists()
    assert git(repository, "worktree", "list").count("\n") == 0


def test_a_worktree_is_gone_when_the_runs_fail(repository: Path, tmp_path: Path) -> None:
    def fail() -> None:
        with worktree(repository, "HEAD", tmp_path / "tree"):
            raise KeyError("a run failed")

    with pytest.raises(KeyError):
        fail()

    assert git(repository, "worktree", "list").count("\n") == 0


def test_an_agent_of_another_tree_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="would import"):
        check_imports(tmp_path)


def test_a_commit_that_does_not_exist_is_told_in_gits_words(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "argv", ["compare", "no-such-commit"])

    with pytest.raises(SystemExit, match=r"Needed a single revision|not a git repository"):
        main()


def test_every_load_runs_on_an_agent_of_a_tree(tmp_path: Path) -> None:
    tiny = [
        partial(ingest, records=400, batch=1),
        partial(ingest, records=4000, batch=100),
        partial(sensors, sensors=5, rate=100, seconds=0.5),
        partial(drain, records=2000),
    ]
    for index, run in enumerate(tiny):
        figures = run(ROOT, tmp_path / str(index))

        assert all(figure > 0 for figure in figures), run
