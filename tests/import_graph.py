"""The import graph of the project: rooms, floors, arrows against the order, circles.

`python -m tests.import_graph` prints the measures; `test_rooms.py` holds them.
"""

import ast
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGES = ("embeddings", "pipeline", "jobs")
# The rooms in reading order: one may import only those above it.
ROOMS = (
    "contracts",
    "measures",
    "runtime",
    "tables",
    "embeddings",
    "pages",
    "pool",
    "vectors",
    "labels",
    "radiology_reports",
    "selection",
    "annotate",
    "learn",
    "audit",
    "stages",
    "rounds",
    "evidence",
    "report",
    "baselines",
    "per_finding",
    "predict",
    "explore",
    "monitor",
    "commands",
    "api",
    "cli",
    "jobs",
)


def module_of(path: Path) -> str:
    """`pipeline.pool.manifest` of `pipeline/pool/manifest.py`; a package is its `__init__`."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def modules() -> dict[str, Path]:
    """Every module of ours and its file."""
    return {module_of(path): path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))}


def imports() -> dict[str, set[str]]:
    """What each module of ours imports of ours, also inside functions."""
    known = modules()
    graph: dict[str, set[str]] = {}
    for name, path in known.items():
        wanted: set[str] = set()
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Import):
                wanted |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                submodules = {f"{node.module}.{alias.name}" for alias in node.names}
                wanted |= submodules & known.keys()
                if submodules - known.keys():  # a name, not a module
                    wanted.add(node.module)
        graph[name] = (wanted & known.keys()) - {name}
    return graph


def room_of(module: str) -> str | None:
    """The room a module is in; None of the package itself, which everybody may import (it holds the version)."""
    parts = module.split(".")
    if module == "pipeline":
        return None
    if parts[0] != "pipeline":
        return parts[0]
    return "cli" if parts[1] == "__main__" else parts[1]


def against_the_order(graph: dict[str, set[str]]) -> list[str]:
    """Imports of a room further down the list."""
    rank = {room: place for place, room in enumerate(ROOMS)}
    arrows = [
        (one, other)
        for one, others in graph.items()
        for other in others
        if (here := room_of(one)) and (there := room_of(other)) and rank[there] > rank[here]
    ]
    return sorted(f"{one} -> {other}" for one, other in arrows)


def circles(graph: dict[str, set[str]]) -> list[list[str]]:
    """Groups of modules that import each other, directly or through others (Tarjan's strong components)."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    groups: list[list[str]] = []

    def visit(module: str) -> None:
        index[module] = low[module] = len(index)
        stack.append(module)
        for other in sorted(graph[module]):
            if other not in index:
                visit(other)
                low[module] = min(low[module], low[other])
            elif other in stack:
                low[module] = min(low[module], index[other])
        if low[module] == index[module]:
            group = stack[stack.index(module) :]
            del stack[stack.index(module) :]
            if len(group) > 1:
                groups.append(sorted(group))

    for module in sorted(graph):
        if module not in index:
            visit(module)
    return groups


def room_graph(graph: dict[str, set[str]]) -> dict[str, set[str]]:
    """Which rooms import which."""
    rooms: dict[str, set[str]] = {room: set() for room in ROOMS}
    for one, others in graph.items():
        if here := room_of(one):
            rooms[here] |= {there for other in others if (there := room_of(other)) and there != here}
    return rooms


def floors(rooms: dict[str, set[str]]) -> dict[str, int]:
    """The floor of each room: one above the highest that it imports; rooms that import none stand on floor 1."""
    floor: dict[str, int] = {}
    for room in ROOMS:  # in their order, so everything a room imports has its floor
        floor[room] = 1 + max((floor[other] for other in rooms[room] if other in floor), default=0)
    return floor


def modules_a_folder() -> Counter[str]:
    """Number of modules in each folder, `__init__` not counted."""
    paths = [path for path in modules().values() if path.name != "__init__.py"]
    return Counter(str(path.parent.relative_to(ROOT)) for path in paths)


def long_functions(limit: int = 60) -> list[str]:
    """Functions of more than `limit` lines."""
    long = []
    for path in modules().values():
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lines = (node.end_lineno or node.lineno) - node.lineno + 1
                if lines > limit:
                    long.append(f"{path.relative_to(ROOT)}:{node.lineno} {node.name} {lines} lines")
    return long


def main() -> None:
    """Print the measures."""
    from rich.console import Console

    graph = imports()
    rooms = room_graph(graph)
    floor = floors(rooms)
    out = Console(width=160, highlight=False)
    out.print(f"{len(graph)} modules in {len(ROOMS)} rooms on {max(floor.values())} floors")
    for room in ROOMS:
        out.print(f"  {floor[room]:2} {room:12} imports {', '.join(r for r in ROOMS if r in rooms[room])}")
    out.print(f"imports against the order: {len(against_the_order(graph))}")
    for arrow in against_the_order(graph):
        out.print(f"  {arrow}")
    out.print(f"circles: {circles(graph) or 'none'}")
    out.print("largest folders: " + ", ".join(f"{name} {num}" for name, num in modules_a_folder().most_common(6)))
    out.print(f"functions over 60 lines: {long_functions() or 'none'}")


if __name__ == "__main__":
    main()
