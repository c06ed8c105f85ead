"""The order of the rooms: whoever stands lower in it never imports what stands higher, and no imports form a circle."""

import ast
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
STAGES = (
    "audio_features",
    "crop",
    "dissolves",
    "failures",
    "latents",
    "leakage",
    "paste",
    "scenes",
    "splits",
)
ROOMS = {
    "manifests/": ("manifests/",),
    "pipeline/": tuple(f"pipeline/{name}.py" for name in ("__init__", *STAGES)),
    "pipeline/media/": ("pipeline/media/",),
    "pipeline/faces/": ("pipeline/faces/",),
    "pipeline/models/": ("pipeline/models/",),
    "pipeline/sync/": ("pipeline/sync/",),
    "pipeline/score/": ("pipeline/score/",),
    "pipeline/select.py": ("pipeline/select.py",),
    "pipeline/config.py": ("pipeline/config.py", "pipeline/presets/"),
    "pipeline/networks.py": ("pipeline/networks.py",),
    "pipeline/score/scorer.py": ("pipeline/score/scorer.py",),
    "pipeline/encode/": ("pipeline/encode/",),
    "pipeline/annotations/": ("pipeline/annotations/",),
    "pipeline/workers/": ("pipeline/workers/",),
    "pipeline/doctor.py": ("pipeline/doctor.py",),
    "pipeline/report/": ("pipeline/report/",),
    "pipeline/maintain/": ("pipeline/maintain/",),
    "pipeline/demo/": ("pipeline/demo/",),
    "pipeline/fetching/": ("pipeline/fetching/",),
    "pipeline/run/": ("pipeline/run/",),
    "pipeline/export/": ("pipeline/export/",),
    "trainer/data/": ("trainer/data/",),
    "trainer/recipes/": ("trainer/recipes/",),
    "trainer/": ("trainer/",),
    "commands/": ("commands/",),
    "cli.py": ("cli.py",),
}
"""Room to what lies in it, from the lowest to the highest; a file belongs to its longest prefix."""
Graph = dict[str, set[str]]


def _files() -> dict[str, Path]:
    found = [ROOT / "cli.py"]
    for folder in ("commands", "manifests", "pipeline", "trainer"):
        found += sorted((ROOT / folder).rglob("*.py"))
    return {path.relative_to(ROOT).as_posix(): path for path in found}


FILES = _files()


def _room(name: str) -> str:
    fitting = [
        (len(prefix), room) for room, prefixes in ROOMS.items() for prefix in prefixes if name.startswith(prefix)
    ]
    return max(fitting)[1] if fitting else f"no room for {name}"


def _nodes(tree: ast.Module, *, everywhere: bool) -> Iterator[ast.AST]:
    """Yield what runs at import; `everywhere` also what functions import, and what only a type checker sees."""
    if everywhere:
        yield from ast.walk(tree)
        return
    waiting: list[ast.AST] = list(tree.body)
    while waiting:
        node = waiting.pop()
        yield node
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) and not _is_for_types(node):
            waiting += ast.iter_child_nodes(node)


def _is_for_types(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)


def _imported(name: str, text: str, *, everywhere: bool) -> set[str]:
    """Return the files of ours that a file imports by relative imports, itself and doors left out."""
    package, found = Path(name).parent.parts, set()
    for node in _nodes(ast.parse(text), everywhere=everywhere):
        if not isinstance(node, ast.ImportFrom) or not node.level:
            continue
        base = [*package[: len(package) - node.level + 1], *(node.module or "").split(".")]
        base = [part for part in base if part]
        for alias in node.names:
            for path in ([*base, alias.name], base):
                file, door = "/".join(path) + ".py", "/".join([*path, "__init__.py"])
                if file in FILES or door in FILES:
                    found.add(file if file in FILES else door)
                    break
    return found - {name}


def _graph(*, everywhere: bool) -> Graph:
    return {
        name: _imported(name, path.read_text(encoding="utf-8"), everywhere=everywhere) for name, path in FILES.items()
    }


def _circle(graph: Graph) -> list[str]:
    """Return a circle, or nothing."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return error.args[1]
    return []


def _upward(graph: Graph) -> set[str]:
    """Return the imports of something that stands higher."""
    rank = {room: number for number, room in enumerate(ROOMS)}
    return {
        f"{name} -> {other}"
        for name, others in graph.items()
        for other in others
        if rank[_room(name)] < rank[_room(other)]
    }


def test_the_walk_sees_imports_of_modules_of_names_and_of_doors():
    text = "from . import selections\nfrom .index import INDEX\ndef f():\n    from ..pipeline.sync import estimate\n"
    at_import = _imported("manifests/dataset.py", text, everywhere=False)
    assert at_import == {"manifests/selections.py", "manifests/index.py"}
    assert _imported("manifests/dataset.py", text, everywhere=True) == at_import | {"pipeline/sync/estimate.py"}
    assert _imported("manifests/dataset.py", "if TYPE_CHECKING:\n    from . import index", everywhere=False) == set()
    assert "manifests/sources/__init__.py" in _imported(
        "manifests/x.py", "from .sources import Source", everywhere=False
    )


def test_a_circle_and_an_arrow_upward_are_seen():
    assert set(_circle({"a": {"b"}, "b": {"c"}, "c": {"a"}})) == {"a", "b", "c"}
    arrow = {"manifests/index.py": {"pipeline/crop.py"}, "pipeline/crop.py": {"manifests/index.py"}}
    assert _upward(arrow) == {"manifests/index.py -> pipeline/crop.py"}


def test_every_file_lies_in_a_room_and_every_room_holds_a_file():
    assert {_room(name) for name in FILES} == set(ROOMS)


@pytest.mark.parametrize("everywhere", [False, True], ids=["at import", "inside functions too"])
def test_no_imports_form_a_circle(everywhere: bool):
    assert _circle(_graph(everywhere=everywhere)) == []


def test_no_room_imports_what_stands_higher():
    assert _upward(_graph(everywhere=True)) == set()


# --- the table of CONTRIBUTING.md


def _table() -> dict[str, str]:
    """Return what the table says that each room imports."""
    lines = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("| `")]
    return {row[0].strip("`"): row[2] for row in rows}


def _shown(room: str, graph: Graph) -> str:
    """Return the rooms that a room imports, in order, as the table names them."""
    imported = {_room(other) for name, others in graph.items() if _room(name) == room for other in others} - {room}
    return ", ".join(f"`{other}`" for other in ROOMS if other in imported) or "nothing"


@pytest.mark.parametrize("room", ROOMS)
def test_the_table_says_what_a_room_imports(room: str):
    table = _table()
    assert list(table) == list(ROOMS)
    assert table[room] == _shown(room, _graph(everywhere=True))
