"""Each public class and function says what it does, of what shape tensors are, in which units numbers, and which errors it raises.

``docstring_exceptions.txt`` lists those that do not say it yet; it may only become shorter.
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LISTED = Path(__file__).with_name("docstring_exceptions.txt")
_Function = ast.FunctionDef | ast.AsyncFunctionDef
_Documented = _Function | ast.ClassDef

TENSOR = re.compile(r"\b(?:Tensor|NDArray|ndarray)\b")
# [N, 4], (H, W, C), ``[R]``, "scalar", "one for each", "same shape as"
SHAPE = re.compile(
    r"[\[(][^\])\n]*\b(?:[A-Z]{1,3}|[a-z]+|\d+|\*\w+|…|\.\.\.)(?:, ?[^\])\n]*)?[\])]|shape|scalar|flat|elementwise|per |each"
)


UNITS = {
    re.compile(r"angles?|degrees"): re.compile(r"degree|radian|°"),
    re.compile(r"timeout|seconds|period|interval"): re.compile(
        r"second|minute|iteration|epoch|step|frame|every"
    ),
    re.compile(r"height|width|image_size|min_size|max_size"): re.compile(
        r"pixel|\[[^\]]*[HWhw]|\([^)]*[HWhw]|cells?|grid|feature|image|size|ratio|share"
    ),
}
LINK = re.compile(r"https?://|arXiv")
# Modules of networks, operators and losses that a paper describes, beside the projects.
FROM_PAPERS = (
    "layers: aspp deform_conv deformable_attention losses point_sampling roi_align soft_nms",
    "modeling/backbone: fpn mvit regnet resnet simple_pyramid swin vit",
    "modeling/meta_arch: fcos panoptic_fpn retinanet semantic_seg mask_classifier",
    "modeling/roi_heads: cascade_rcnn fast_rcnn keypoint_head mask_head",
)


def modules() -> Iterator[Path]:
    """Yield the public modules of the package, without configs."""
    for path in sorted((ROOT / "detectron2").rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        if "configs" not in parts and not any(p.startswith("_") and p != "__init__" for p in parts):
            yield path


def public(path: Path) -> Iterator[tuple[str, _Documented]]:
    """Yield the public classes and functions that a module defines, and the public methods of the classes."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    listed = next((ast.literal_eval(n.value) for n in tree.body if _is_all(n)), None)  # type: ignore[attr-defined]
    module = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    for node in tree.body:
        if isinstance(node, _Documented) and (
            node.name in listed if listed else not node.name.startswith("_")
        ):
            yield f"{module}.{node.name}", node


def _is_all(node: ast.stmt) -> bool:
    return (
        isinstance(node, ast.Assign)
        and ast.unparse(node.targets[0]) == "__all__"
        and isinstance(node.value, ast.List | ast.Tuple)
        and all(isinstance(e, ast.Constant) for e in node.value.elts)
    )


def faults(node: _Documented) -> Iterator[str]:
    """Yield what a docstring lacks: itself, ``shapes``, ``units`` or ``errors``."""
    text = ast.get_docstring(node)
    if not text:
        yield "docstring"
        return
    if isinstance(node, ast.ClassDef):
        return
    signature = " ".join(ast.unparse(a.annotation) for a in _arguments(node) if a.annotation)
    signature += ast.unparse(node.returns) if node.returns else ""
    if TENSOR.search(signature) and not SHAPE.search(text):
        yield "shapes"
    names = [a.arg for a in _arguments(node)]
    if any(name.fullmatch(n) and not unit.search(text) for name, unit in UNITS.items() for n in names):
        yield "units"
    if any(isinstance(n, ast.Raise) and n.exc is not None for n in _own(node)) and "Raises:" not in text:
        yield "errors"


def _arguments(node: _Function) -> list[ast.arg]:
    a = node.args
    return [*a.posonlyargs, *a.args, *a.kwonlyargs]


def _own(node: ast.AST) -> Iterator[ast.AST]:
    """Walk through the statements of a function without the functions inside."""
    for child in ast.iter_child_nodes(node):
        statement = isinstance(child, ast.stmt | ast.ExceptHandler | ast.match_case)
        if statement and not isinstance(child, _Function | ast.ClassDef):
            yield child
            yield from _own(child)


def test_public_names_say_what_readers_need() -> None:
    found = {
        f"{name}: {fault}" for path in modules() for name, node in public(path) for fault in faults(node)
    }
    listed = {
        line for line in LISTED.read_text(encoding="utf-8").splitlines() if line and not line.startswith("#")
    }
    assert found - listed == set(), "write it into the docstring"
    assert listed - found == set(), "no longer needed in the list"


def test_what_comes_from_a_paper_names_it() -> None:
    places = [*(ROOT / "detectron2/projects").glob("*/__init__.py")]
    for line in FROM_PAPERS:
        folder, _, names = line.partition(": ")
        places += [ROOT / "detectron2" / folder / f"{name}.py" for name in names.split()]
    texts = {
        p: "".join(
            ast.get_docstring(n) or ""
            for n in ast.walk(ast.parse(p.read_text(encoding="utf-8")))
            if isinstance(n, ast.Module | _Documented)
        )
        for p in places
    }
    assert not [str(p.relative_to(ROOT)) for p, text in texts.items() if not LINK.search(text)]
