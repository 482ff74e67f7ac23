"""The rules of the house (docs/architecture.md), checked on the syntax tree alone."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections import Counter
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

ROOT = Path(__file__).parent.parent
MODULES = sorted(path.relative_to(ROOT) for path in (ROOT / "edge_agent").rglob("*.py"))
FILES = {
    str(path.with_suffix("")).replace("/", ".").removesuffix(".__init__"): path for path in MODULES
}

#: The parts, floor by floor from the ground: folders, and the few modules that stand beside them.
PARTS = """
errors metrics extras zstd | values | output supervise | system | net seal |
wire session store config | commit history log client rules copied_sources bridge |
live digest forward wear scrubber security | questions | server ops | assembly | agent | cli |
__main__
"""
FLOORS = {part: floor for floor, parts in enumerate(PARTS.split("|")) for part in parts.split()}
#: Nothing imports its neighbours on the same floor, but for these.
SIDEWAYS = {("wire", "session"), ("log", "commit")}
#: What needs more than Trio and msgpack is not for sensors.
NOT_FOR = {"client": {"store", "config", "wire"}}
PURE = {"values", "output", "wire", "session", "store", "config", "history", "rules",
        "errors", "metrics", "extras", "zstd", "seal", "system.block_device"}  # fmt: skip
#: Modules that a pure one may use although they ask the machine: what they give does not change.
ASKED_BY_PURE = {"edge_agent.system.files", "edge_agent.net.access"}
#: Rooms that are entered by their doors: what is named elsewhere is in the face of one of these.
ROOMS = {"history", "digest", "store", "wire", "session", "commit", "config", "forward", "client",
         "rules"}  # fmt: skip
INNER_DOORS = {"history.answers", "history.keys", "store.tools", "store.thinning",
               "forward.carried"}  # fmt: skip
DOORS = {f"edge_agent.{name}" for name in ROOMS | INNER_DOORS}
#: A room within a room, which even its neighbours there enter by the door.
CLOSET = "edge_agent.store.thinning."
IMPURE = {"trio", "time", "random", "socket"}
#: Heavy libraries and who may import them, though never while edge_agent.agent is imported.
HEAVY = {"starlette": {"ops"}, "prometheus_client": {"ops"}, "cryptography": {"security", "seal"},
         "rich": {"cli"}, "psutil": {"cli", "ops"}, "pyarrow": {"output"},
         "confluent_kafka": {"forward"}, "psycopg": {"forward"}, "paho": {"cli"},
         "cel_expr_python": {"values"}}  # fmt: skip
#: Modules without a test file of their own: three lines, and declarations.
UNTESTED = {"edge_agent/__main__.py", "edge_agent/config/shape.py", "edge_agent/config/examples.py",
            "edge_agent/config/quantities.py", "edge_agent/config/upstreams.py",
            "edge_agent/config/mqtt_table.py", "edge_agent/config/databases.py",
            "edge_agent/config/reference_tables.py"}  # fmt: skip


def station(path: Path) -> str:
    return path.parts[1] if len(path.parts) > 2 else path.stem


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse((ROOT / path).read_text())


@cache
def imports(path: Path) -> list[str]:
    """Full names of all imported modules, also of those imported inside functions."""
    names: list[str] = []
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            full = [f"{node.module}.{alias.name}" for alias in node.names]
            names += [name if name in FILES else node.module for name in full]
    return names


def our_imports(path: Path) -> set[str]:
    parts = [name.split(".") for name in imports(path)]
    return {part[1] for part in parts if part[0] == "edge_agent" and len(part) > 1}


def test_imports_only_go_down() -> None:
    wrong = [
        f"{path} imports {other}"
        for path in MODULES
        for here in [station(path)]
        for other in our_imports(path) - {here}
        if other in NOT_FOR.get(here, ())
        or (FLOORS[other] >= FLOORS[here] and (here, other) not in SIDEWAYS)
    ]
    assert not wrong


def test_the_map_of_the_code_names_every_folder() -> None:
    text = (ROOT / "edge_agent/__init__.py").read_text()
    folders = {path.parts[1] for path in MODULES if len(path.parts) > 2}
    assert not [name for name in sorted(folders) if f"``{name}``" not in text]


def test_no_files_import_one_another_in_a_circle() -> None:
    TopologicalSorter({n: set(imports(p)) & FILES.keys() for n, p in FILES.items()}).prepare()


def test_nobody_goes_past_a_door() -> None:
    inner = [(p, n) for p in MODULES for n in imports(p) if n.count(".") > 1 and n not in DOORS]
    assert not [(p, n) for p, n in inner if n.split(".")[1] in ROOMS - {station(p)}]
    assert not [(p, n) for p, n in inner if n.startswith(CLOSET) and "thinning" not in p.parts]


def asks(path: Path) -> bool:
    return any(name.split(".")[0] in IMPURE for name in imports(path))


def test_pure_stations_ask_neither_network_nor_clock_nor_chance() -> None:
    pure = [n for n, p in FILES.items() if {station(p), n.removeprefix("edge_agent.")} & PURE]
    assert not [name for name in pure if asks(FILES[name])]
    named = ((n, o) for n in pure for o in imports(FILES[n]) if o in FILES)
    assert not [(n, o) for n, o in named if asks(FILES[o]) and o not in ASKED_BY_PURE]


def test_heavy_libraries_stay_where_they_belong() -> None:
    everything = [(path, name.split(".")[0]) for path in MODULES for name in imports(path)]
    assert not [(p, n) for p, n in everything if station(p) not in HEAVY.get(n, {station(p)})]


def test_importing_the_agent_imports_nothing_heavy() -> None:
    command = [sys.executable, "-c", "import edge_agent.agent, sys; print(*sys.modules)"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    loaded = set(done.stdout.split())
    assert {"trio", "lmdb"} <= loaded and not set(HEAVY) & loaded


def test_the_peoples_port_loads_what_only_metrics_need_when_they_are_asked_for() -> None:
    command = [sys.executable, "-c", "import edge_agent.ops.port, sys; print(*sys.modules)"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    loaded = set(done.stdout.split())
    assert "starlette" in loaded and "prometheus_client" not in loaded


def test_modules_are_short_and_say_what_they_are_for() -> None:
    wrong = [f"{path} has no docstring" for path in MODULES if not ast.get_docstring(tree(path))]
    lengths = {path: len((ROOT / path).read_text().splitlines()) for path in MODULES}
    wrong += [f"{path} has {lines} lines" for path, lines in lengths.items() if lines > 450]
    for path, node in ((p, n) for p in MODULES for n in ast.walk(tree(p))):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            lines = (node.end_lineno or 0) - node.lineno + 1
            wrong += [f"{path}: {node.name} has {lines} lines"] if lines >= 50 else []
    assert not wrong


def test_a_class_name_is_used_once() -> None:
    nodes = (node for path in MODULES for node in ast.walk(tree(path)))
    names = Counter(node.name for node in nodes if isinstance(node, ast.ClassDef))
    assert not [name for name, count in names.items() if count > 1]


def test_every_module_has_its_test_file() -> None:
    files = (path for path in MODULES if path.stem != "__init__")
    tests = {p: ROOT / Path("tests", *p.parts[1:-1], f"test_{p.stem}.py") for p in files}
    wrong = [p for p, test in tests.items() if (str(p) in UNTESTED) == test.exists()]
    assert not wrong, "has no test, or is listed in UNTESTED although it has one"


def test_nothing_is_left_to_be_done() -> None:
    words = ("TO" + "DO", "FIX" + "ME", "XX" + "X", "NotImplemented" + "Error")
    files = [*MODULES, *(ROOT / "tests").rglob("*.py")]
    texts = {path: (ROOT / path).read_text() for path in files}
    assert not [(path, word) for path in files for word in words if word in texts[path]]
