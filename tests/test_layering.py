"""Imports between the packages of detectron2 point down only (docs/dev/plan.md)."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent / "detectron2"

TIERS = [
    {"utils"},
    {"config"},
    {"layers"},
    {"structures"},
    {"data"},
    {"solver", "checkpoint", "evaluation", "modeling"},
    {"engine"},
    {"model_zoo"},
    {"export", "tracking", "projects", "top-utils"},
    {"reports"},
    {"cli"},
]
TOP_UTILS = {"visualizer", "video_visualizer", "testing", "analysis"}
# Lower code that draws or writes a page does it through one late import: (importing module, imported package).
LATE_IMPORTS: set[tuple[str, str]] = {
    ("modeling.meta_arch._training_pictures", "top-utils"),
    ("engine.hooks._report", "reports"),
}

LEVEL = {name: i for i, tier in enumerate(TIERS) for name in tier}


def package_of(parts: list[str]) -> str | None:
    """Package that a dotted path below detectron2 belongs to; None for the root."""
    if not parts:
        return None
    if parts[0] == "utils" and len(parts) > 1 and parts[1] in TOP_UTILS:
        return "top-utils"
    return parts[0]


def imports_of(path: Path) -> list[tuple[list[str], bool]]:
    """Every module of detectron2 that a file imports, as parts, and whether the import is inside a function."""
    here = ["detectron2", *path.relative_to(ROOT).with_suffix("").parts]
    found: list[tuple[list[str], bool]] = []

    def visit(node: ast.AST, inside: bool) -> None:
        for child in ast.iter_child_nodes(node):
            late = inside or isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
            if isinstance(child, ast.Import):
                for alias in child.names:
                    found.append((alias.name.split("."), inside))
            elif isinstance(child, ast.ImportFrom):
                base = child.module.split(".") if child.module else []
                if child.level:
                    package = here if path.name == "__init__.py" else here[:-1]
                    package = package[:-1] if path.name == "__init__.py" else package
                    base = package[: len(package) - (child.level - 1)] + base
                for alias in child.names:
                    found.append(([*base, alias.name], inside))
            elif isinstance(child, ast.If) and "TYPE_CHECKING" in ast.dump(child.test):
                for other in child.orelse:
                    visit(other, inside)
                continue
            visit(child, late)

    visit(ast.parse(path.read_text(encoding="utf-8")), False)
    return [(parts[1:], late) for parts, late in found if parts[0] == "detectron2"]


FILES = sorted(p for p in ROOT.rglob("*.py") if "configs" not in p.parts and p != ROOT / "__init__.py")


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_point_down(path: Path) -> None:
    parts = list(path.relative_to(ROOT).with_suffix("").parts)
    own = package_of(parts)
    assert own is not None
    if own not in LEVEL:
        assert parts == ["__main__"], f"{path} is in no known package"
        return
    module = ".".join(parts)
    bad = []
    for target, late in imports_of(path):
        other = package_of(target)
        if other is None or other == own or other not in LEVEL:
            continue
        if LEVEL[other] >= LEVEL[own] and not (late and (module, other) in LATE_IMPORTS):
            bad.append(".".join(target))
    assert not bad, f"{module} imports upward: {bad}"


def test_files_were_found() -> None:
    assert len(FILES) > 5
