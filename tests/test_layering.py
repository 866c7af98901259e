"""The rules of docs/architecture.md about imports: they point down, run in no circle, and stay visible."""

import ast
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent / "detectron2"

TIERS = [
    {"utils"},
    {"config"},
    {"layers"},
    {"structures"},
    {"data"},
    {"visualization"},
    {"solver", "checkpoint", "evaluation", "modeling"},
    {"reports"},
    {"engine"},
    {"model_zoo"},
    {"export", "tracking", "projects"},
    {"prediction"},
    {"serving"},
    {"cli"},
]
LEVEL = {name: i for i, tier in enumerate(TIERS) for name in tier}
# Detectron2's paths of code that belongs higher up: files that only hand names on.
RE_EXPORTS = {"utils.visualizer", "utils.video_visualizer", "utils.testing"}
MOST_LATE_IMPORTS = 10


@dataclass(frozen=True)
class Import:
    """One name that a module imports from this package.

    Attributes:
        target: dotted path of the imported module, without ``detectron2``.
        late: whether the import stands inside a function.
        for_types: whether only type checkers run it.
        line: line number.
    """

    target: str
    late: bool
    for_types: bool
    line: int


def _modules() -> dict[str, Path]:
    found = {}
    for path in sorted(ROOT.rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        if "configs" in parts:
            continue
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


MODULES = _modules()


def _known(dotted: str) -> str:
    """The longest known module that a dotted path starts with; the rest is a name in it."""
    while dotted not in MODULES:
        dotted = dotted.rpartition(".")[0]
    return dotted


@cache
def imports_of(module: str) -> list[Import]:
    """Everything that a module imports from this package."""
    path = MODULES[module]
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    found: list[Import] = []

    def visit(node: ast.AST, late: bool, for_types: bool) -> None:
        for child in ast.iter_child_nodes(node):
            dotted: list[str] = []
            if isinstance(child, ast.Import):
                dotted = [
                    a.name[len("detectron2.") :] for a in child.names if a.name.startswith("detectron2.")
                ]
            elif isinstance(child, ast.ImportFrom):
                base = child.module or ""
                if child.level:
                    above = ["detectron2", *package.split(".")] if package else ["detectron2"]
                    above = above[: len(above) - child.level + 1]
                    base = ".".join(above + ([base] if base else []))
                if base.split(".")[0] == "detectron2":
                    dotted = [f"{base}.{a.name}".partition(".")[2] for a in child.names]
            found.extend(Import(_known(d), late, for_types, child.lineno) for d in dotted)
            if isinstance(child, (ast.stmt, ast.ExceptHandler, ast.match_case)):  # no expression imports
                inside = isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef))
                types = isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test)
                visit(child, late or inside, for_types or types)

    visit(ast.parse(path.read_text(encoding="utf-8")), False, False)
    return found


def package_of(module: str) -> str:
    return module.partition(".")[0]


def test_every_package_has_a_tier() -> None:
    packages = {package_of(m) for m in MODULES} - {"", "__main__"}
    assert packages - set(LEVEL) == set()
    assert len(MODULES) > 300


def test_imports_point_down() -> None:
    upward = [
        f"{module}:{i.line} -> {i.target}"
        for module in MODULES
        if (own := package_of(module)) in LEVEL and module not in RE_EXPORTS
        for i in imports_of(module)
        if package_of(i.target) in LEVEL
        and package_of(i.target) != own
        and (LEVEL[package_of(i.target)] >= LEVEL[own] or i.target in RE_EXPORTS)
        and not i.for_types
    ]
    assert upward == []


@pytest.mark.parametrize("module", sorted(RE_EXPORTS))
def test_old_paths_only_hand_names_on(module: str) -> None:
    body = ast.parse(MODULES[module].read_text(encoding="utf-8")).body
    assert not any(isinstance(n, (ast.FunctionDef, ast.ClassDef)) for n in body)


def test_no_private_module_is_imported_from_another_package() -> None:
    reached = [
        f"{module}:{i.line} -> {i.target}"
        for module in MODULES
        for i in imports_of(module)
        if package_of(i.target) != package_of(module) and any(p.startswith("_") for p in i.target.split("."))
    ]
    assert reached == []


def test_few_imports_stand_inside_functions() -> None:
    late = [f"{m}:{i.line} -> {i.target}" for m in MODULES for i in imports_of(m) if i.late and i.target]
    assert len(late) <= MOST_LATE_IMPORTS, "\n".join(late)


def test_files_import_each_other_in_no_circle() -> None:
    """Types count too: two files that name each other are one thought in two places."""
    graph = {m: {i.target for i in imports_of(m) if i.target and i.target != m} for m in MODULES}
    # A package's __init__ names its files, and its files are inside it: that is a roof, not a circle.
    for module, targets in graph.items():
        targets -= {t for t in targets if module.startswith(f"{t}.")}
    circles: list[list[str]] = []
    done: set[str] = set()

    def walk(module: str, trail: list[str]) -> None:
        if module in trail:
            circles.append([*trail[trail.index(module) :], module])
            return
        if module in done:
            return
        for target in sorted(graph[module]):
            walk(target, [*trail, module])
        done.add(module)

    for module in graph:
        walk(module, [])
    assert circles == [], "\n".join(" -> ".join(c) for c in circles)
