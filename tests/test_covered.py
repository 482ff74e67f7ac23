from __future__ import annotations

from tests.covered import by_package


def figures(ran: int, there: int, branches: int = 0) -> dict[str, dict[str, int]]:
    return {
        "summary": {
            "covered_lines": ran, "num_statements": there,
            "covered_branches": 0, "num_branches": branches,
        }
    }  # fmt: skip


def test_a_package_is_weighed_by_its_lines_and_branches_and_not_by_its_files() -> None:
    files = {
        "edge_agent/store/a.py": figures(90, 90),
        "edge_agent/store/b.py": figures(0, 5, branches=5),
        "edge_agent/wire/c.py": figures(0, 100),
        "edge_agent/wire/__init__.py": figures(0, 0),
    }
    percents = by_package(files)
    assert percents == {"all": 45.0, "edge_agent/store": 90.0, "edge_agent/wire": 0.0}
