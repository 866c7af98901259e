"""Try every architecture in every way of running it, and print the table of ``docs/models.md``.

    python tools/architecture_table.py [--cells train,eval,...] [--only NAME ...] [--results FILE] [--write]

Each cell is tried on a small model with random weights (``tests/modeling/_models.py``, and for the models of queries and
EVA-02 ``tests/projects/_modern_models.py``):

* train: losses are finite and every parameter gets a finite gradient, with objects and on background alone;
* eval: results have the documented keys, and a batch gives what its images give alone;
* cpu, cuda: a training step and a prediction on that device;
* compile, export: ``torch.compile(fullgraph=True, dynamic=True)`` without code generation, and strict
  ``torch.export`` with any height and width, both equal to the eager model on a second size.

Which architectures become ONNX and other files is in the table of ``docs/export.md``.

Cells that were not tried say so. ``--results`` keeps outcomes in a file, so that slow cells can be run one by one;
outcomes that are there already are not tried again.
"""

from __future__ import annotations

import argparse
import functools
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from detectron2.export import export_program
from detectron2.export.metadata import side_limits
from detectron2.modeling.tensor_inference import TensorInference
from detectron2.utils.events import EventStorage

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "tests" / "modeling"), str(ROOT / "tests" / "projects")]
from _models import example, image, small_model  # noqa: E402
from _modern_models import MODELS, small_modern_model  # noqa: E402

DOCUMENT = ROOT / "docs" / "models.md"
BEGIN, END = "<!-- architectures: begin -->", "<!-- architectures: end -->"
TITLES = {
    "faster_rcnn": "Faster R-CNN, FPN",
    "c4": "Mask R-CNN, C4",
    "mask_rcnn": "Mask R-CNN, FPN",
    "keypoint_rcnn": "Keypoint R-CNN, FPN",
    "cascade": "Cascade Mask R-CNN, FPN",
    "rotated": "Rotated Faster R-CNN (RRPN), FPN",
    "rpn": "Proposal network (RPN), FPN",
    "retinanet": "RetinaNet",
    "fcos": "FCOS",
    "semantic": "Semantic FPN",
    "panoptic": "Panoptic FPN",
    "vitdet": "Mask R-CNN, ViT with a simple pyramid",
    "swin": "Mask R-CNN, Swin and FPN",
    "dino": "DINO",
    "deformable_detr": "Deformable DETR",
    "eva02": "EVA-02 Cascade Mask R-CNN",
    "mask2former": "Mask2Former, instances",
    "mask2former_semantic": "Mask2Former, semantic",
    "mask2former_panoptic": "Mask2Former, panoptic",
    "maskdino": "MaskDINO, instances",
    "maskdino_semantic": "MaskDINO, semantic",
    "maskdino_panoptic": "MaskDINO, panoptic",
}
RESULT_KEYS = {
    "rpn": {"proposals"},
    "semantic": {"sem_seg"},
    "panoptic": {"sem_seg", "instances", "panoptic_seg"},
}
RESULT_KEYS |= {
    f"{name}_{kind}": RESULT_KEYS[kind]
    for name in ("mask2former", "maskdino")
    for kind in ("semantic", "panoptic")
}


@functools.lru_cache(maxsize=2)
def model_of(name: str) -> torch.nn.Module:
    """Return the small model of an architecture."""
    return small_modern_model(name) if name in MODELS else small_model(name)


def check(condition: bool, what: str) -> None:
    if not condition:
        raise RuntimeError(what)


def step(name: str, model: torch.nn.Module, num_objects: int) -> None:
    """One training step; every parameter must get a finite gradient."""
    model.train()
    torch.manual_seed(0)
    try:
        with EventStorage():
            batch = [example(name, 128, 160, num_objects), example(name, 160, 128, num_objects, seed=5)]
            losses = model(batch)
            sum(losses.values()).backward()
        check(all(bool(v.isfinite()) for v in losses.values()), "a loss is not finite")
        trained = [p for p in model.parameters() if p.requires_grad]
        missing = sum(p.grad is None for p in trained)
        check(missing == 0, f"{missing} parameters without a gradient")
        finite = all(bool(p.grad.isfinite().all()) for p in trained if p.grad is not None)
        check(finite, "a gradient is not finite")
    finally:
        model.zero_grad(set_to_none=True)
        model.eval()


def cell_train(name: str) -> None:
    step(name, model_of(name), num_objects=3)
    step(name, model_of(name), num_objects=0)


@torch.no_grad()
def cell_eval(name: str) -> None:
    model = model_of(name)
    inputs = [image(128, 160, seed) for seed in (1, 2)]
    together, alone = model(inputs), [model([item])[0] for item in inputs]
    for one, other in zip(together, alone):
        check(set(one) == RESULT_KEYS.get(name, {"instances"}), f"results have the keys {sorted(one)}")
        if "sem_seg" in one:
            torch.testing.assert_close(one["sem_seg"], other["sem_seg"], rtol=1e-4, atol=1e-3)
        for key in {"instances", "proposals"} & set(one):
            field = "scores" if key == "instances" else "objectness_logits"
            check(len(one[key]) > 0, "nothing was found")
            torch.testing.assert_close(one[key].get(field), other[key].get(field), rtol=1e-3, atol=1e-3)


def on_device(name: str, device: str) -> None:
    model = model_of(name)
    try:
        model.to(device)
        step(name, model, num_objects=3)
        with torch.no_grad():
            (result,) = model([image(128, 160)])
        check(set(result) == RESULT_KEYS.get(name, {"instances"}), f"results have the keys {sorted(result)}")
    finally:
        model.to("cpu")


def same_as_eager(graph: torch.nn.Module, other: Callable[[torch.Tensor], Any]) -> None:
    with torch.no_grad():
        for height, width in ((160, 135), (200, 170)):
            picture = image(height, width)["image"]
            expected, found = graph(picture), other(picture)
            check(set(expected) == set(found), f"outputs have the keys {sorted(found)}")
            for key, value in expected.items():
                if key == "panoptic_seg":  # masks are cut at one half: a pixel may fall on either side
                    check(
                        float((found[key] != value).float().mean()) < 1e-3, "more than 0.1% of pixels differ"
                    )
                    continue
                torch.testing.assert_close(found[key], value, rtol=1e-4, atol=1e-3, msg=key)


def cell_compile(name: str) -> None:
    torch.compiler.reset()
    graph = TensorInference(model_of(name))
    same_as_eager(graph, torch.compile(graph, fullgraph=True, dynamic=True, backend="aot_eager"))


def cell_export(name: str) -> None:
    model = model_of(name)
    most = min(1024, side_limits(model, None)[1])
    program = export_program(model, image(160, 135)["image"], min_size=129, max_size=most)
    same_as_eager(TensorInference(model), program.module())


CELLS: dict[str, Callable[[str], None]] = {
    "train": cell_train,
    "eval": cell_eval,
    "cpu": lambda name: on_device(name, "cpu"),
    "cuda": lambda name: on_device(name, "cuda"),
    "compile": cell_compile,
    "export": cell_export,
}


def outcome(name: str, cell: str) -> str:
    if cell == "cuda" and not torch.cuda.is_available():
        return "not run here"
    try:
        CELLS[cell](name)
    except Exception as error:  # whatever goes wrong is the content of the cell
        first = (str(error).splitlines() or [""])[0]
        return f"fails: {type(error).__name__}: {first[:80]}".replace("|", "/")
    return "yes"


def table(names: list[str], outcomes: dict[str, dict[str, str]]) -> str:
    lines = [
        "| architecture | train | eval | CPU | CUDA | compile | export |",
        "|---|---|---|---|---|---|---|",
    ]
    for name in names:
        row = [outcomes.get(name, {}).get(cell, "not run") for cell in CELLS]
        lines.append(f"| {TITLES[name]} | {' | '.join(row)} |")
    return "\n".join(lines)


def write(text: str) -> None:
    """Put the table into the document in place of the old one."""
    before, rest = DOCUMENT.read_text(encoding="utf-8").split(BEGIN)
    after = rest.split(END)[1]
    DOCUMENT.write_text(f"{before}{BEGIN}\n\n{text}\n\n{END}{after}", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cells", default=",".join(CELLS), help="which to try, with commas between them")
    parser.add_argument("--only", nargs="+", choices=TITLES, metavar="NAME", help="architectures to try")
    parser.add_argument("--results", type=Path, help="JSON file of outcomes to go on from")
    parser.add_argument("--write", action="store_true", help="put the table into docs/models.md")
    args = parser.parse_args()
    cells = args.cells.split(",")
    if unknown := set(cells) - set(CELLS):
        parser.error(f"no cells {sorted(unknown)}; there are {', '.join(CELLS)}")
    kept = args.results is not None and args.results.exists()
    outcomes: dict[str, dict[str, str]] = json.loads(args.results.read_text()) if kept else {}
    for name in args.only or TITLES:
        for cell in cells:
            row = outcomes.setdefault(name, {})
            if cell in row:
                continue
            row[cell] = outcome(name, cell)
            print(f"{name:14s} {cell:8s} {row[cell]}", file=sys.stderr, flush=True)
            if args.results is not None:
                args.results.write_text(json.dumps(outcomes, indent=1))
    text = table(list(TITLES), outcomes)
    print(text)
    if args.write:
        write(text)


if __name__ == "__main__":
    main()
