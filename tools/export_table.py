"""Export a small model of every architecture to every format, and write the table of ``docs/export.md``.

    python tools/export_table.py                       # the table, from what was found last
    python tools/export_table.py --run                 # try everything anew (an hour or more on one core)
    python tools/export_table.py --run --only fcos     # try one architecture

What is found is kept in ``tools/export_table.json``. The models are those of the tests: narrow, with random weights. Files
take pictures of any size, those of AOTInductor of one size: compiling the code for any size takes ten times as long.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import tempfile
import time
import traceback
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from detectron2.export import ExportOptions, export_model
from detectron2.export.formats import FORMATS
from detectron2.export.metadata import versions

ROOT = Path(__file__).resolve().parents[1]
OUTCOMES, DOCUMENT = Path(__file__).with_suffix(".json"), ROOT / "docs" / "export.md"
BEGIN, END = "<!-- table: python tools/export_table.py -->", "<!-- end of table -->"
NAMES = {
    "faster_rcnn": "Faster R-CNN", "mask_rcnn": "Mask R-CNN", "keypoint_rcnn": "Keypoint R-CNN", "cascade": "Cascade Mask R-CNN",
    "c4": "Mask R-CNN C4", "retinanet": "RetinaNet", "fcos": "FCOS", "rpn": "RPN", "semantic": "Semantic FPN",
    "panoptic": "Panoptic FPN", "vitdet": "ViTDet Mask R-CNN", "swin": "Swin Mask R-CNN", "rotated": "Rotated Faster R-CNN",
}  # fmt: skip


def calm_model(name: str) -> nn.Module:
    """Return the tests' small model, with scores that are not all at the limits of their range."""
    sys.path.insert(0, str(ROOT / "tests" / "modeling"))
    from _models import small_model

    model: Any = small_model(name).eval()
    with torch.no_grad():
        for path, layer in model.named_modules():
            if path.endswith(("cls_score", "objectness_logits")) and hasattr(layer, "weight"):
                layer.weight.mul_(0.01 if name not in ("retinanet", "fcos") else 0.5)
    return model


def pictures() -> list[np.ndarray]:
    """Return pictures of noise, of two shapes."""
    generator = np.random.default_rng(0)
    return [generator.integers(0, 256, (*size, 3), dtype=np.uint8) for size in ((160, 220), (200, 140))]


def try_one(model: nn.Module, name: str, to: str, graphs: dict[Any, Any]) -> dict[str, Any]:
    """Export to one format and return what there is to say about it."""
    low, high = (96, 128) if name == "vitdet" else (192, 256)
    static = (low, high) if to == "aoti" else None
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        try:
            found = export_model(
                model,
                Path(folder) / "model",
                pictures(),
                options=ExportOptions(to, static=static),
                metadata={"min_size": low, "max_size": high},
                graphs=graphs,
            )
        except Exception as error:
            traceback.print_exc()
            return {"agrees": False, "why": str(error).strip()[:1000]}
        size = sum(f.stat().st_size for f in Path(folder).iterdir() if f.suffix != ".md")
    return {
        "agrees": True,
        "ms": found.file_cpu_ms,
        "model_ms": found.model_cpu_ms,
        "mb": size / 1e6,
        "box": max(d.box for d in found.differences),
        "score": max(d.score for d in found.differences),
        "seconds": time.perf_counter() - start,
    }


def cell(outcome: dict[str, Any] | None) -> str:
    """Return one cell of the table."""
    if outcome is None:
        return "not run"
    if not outcome["agrees"]:
        return "no"
    ratio = outcome["model_ms"] / max(outcome["ms"], 1e-9)
    return f"yes, {outcome['ms']:.0f} ms ({ratio:.1f}x), {outcome['mb']:.0f} MB"


def table(outcomes: dict[str, Any]) -> str:
    """Return the table as Markdown."""
    lines = ["| architecture | " + " | ".join(FORMATS) + " |", "| --- |" + " --- |" * len(FORMATS)]
    for name, title in NAMES.items():
        row = [cell(outcomes.get(name, {}).get(to)) for to in FORMATS]
        lines.append(f"| {title} | " + " | ".join(row) + " |")
    return "\n".join(lines)


def read_kept() -> dict[str, Any]:
    """Return what was found until now."""
    return json.loads(OUTCOMES.read_text()) if OUTCOMES.is_file() else {"outcomes": {}}


def keep(name: str, to: str, outcome: dict[str, Any]) -> None:
    """Add an outcome to the file; another process may have added to it meanwhile."""
    kept = read_kept()
    kept["outcomes"].setdefault(name, {})[to] = outcome
    kept["versions"] = versions()
    kept["machine"] = f"{platform.machine()}, {torch.get_num_threads()} thread(s)"
    OUTCOMES.write_text(json.dumps(kept, indent=1) + "\n")


def main() -> None:
    """Run what is asked for and write the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--run", action="store_true", help="try anew")
    parser.add_argument("--only", nargs="*", default=list(NAMES), metavar="NAME", help="architectures to try")
    parser.add_argument("--to", nargs="*", default=list(FORMATS), metavar="FORMAT", help="formats to try")
    args = parser.parse_args()
    for name in args.only if args.run else ():
        model, graphs = calm_model(name), dict[Any, Any]()
        for to in args.to:
            outcome = try_one(model, name, to, graphs)
            print(name, to, outcome, flush=True)
            keep(name, to, outcome)
    kept = read_kept()
    if DOCUMENT.is_file():
        text = DOCUMENT.read_text(encoding="utf-8")
        head, _, rest = text.partition(BEGIN)
        _, _, tail = rest.partition(END)
        DOCUMENT.write_text(f"{head}{BEGIN}\n{table(kept['outcomes'])}\n{END}{tail}", encoding="utf-8")


if __name__ == "__main__":
    main()
