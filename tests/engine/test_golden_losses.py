"""Losses of the first 50 steps of three models, from the picture files on, as they were recorded.

Where ``golden_losses.json`` was recorded (the same processor and versions), the losses are equal to the last bit;
elsewhere they differ by less than 1e-4. The models compute in float64. In float32, rounding differs enough between
processors to make another anchor positive, or to suppress another box, and such a choice changes losses by far more
than the rounding itself. After a change that is meant, write the file anew::

    python tests/engine/test_golden_losses.py
"""

from __future__ import annotations

import json
import platform
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets import register_coco_instances
from detectron2.engine import DefaultTrainer
from detectron2.utils.env import seed_all_rng

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "modeling"))
from _models import small_config

RECORDS = Path(__file__).with_name("golden_losses.json")
# Options with which losses fall, and differences of rounding do not grow from step to step.
MODELS = {
    "faster_rcnn": (),
    "mask_rcnn": (),
    "retinanet": ("MODEL.RETINANET.NUM_CONVS", 1, "SOLVER.BASE_LR", 0.005),
}
STEPS = 50
DATA = "golden_losses_data"


def kind_of_machine() -> dict[str, str]:
    """What decides about rounding: processor, instructions, libraries."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return {
        "processor": f"{platform.machine()} {names[0] if names else platform.processor()}",
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "torch": torch.__version__,
        "numpy": np.__version__,
    }


def write_data(folder: Path) -> str:
    """Pictures with rectangles, whose colours are their classes, as a COCO data set."""
    rng = np.random.default_rng(0)
    colours = rng.integers(0, 255, (5, 3))
    images, annotations = [], []
    for i in range(12):
        height, width = (72, 96) if i % 3 else (96, 72)
        pixels = rng.integers(0, 60, (height, width, 3)).astype(np.uint8)
        for category in rng.permutation(5)[: 1 + i % 3].tolist():
            w, h = rng.integers(16, 44, 2).tolist()
            x, y = int(rng.integers(0, width - w)), int(rng.integers(0, height - h))
            pixels[y : y + h, x : x + w] = colours[category]
            corners = [x, y, x + w, y, x + w, y + h, x, y + h]
            one = {"bbox": [x, y, w, h], "area": w * h, "segmentation": [corners], "iscrowd": 0}
            one |= {"id": len(annotations) + 1, "image_id": i, "category_id": category + 1}
            annotations.append(one)
        Image.fromarray(pixels).save(folder / f"{i}.png")
        images.append({"id": i, "file_name": f"{i}.png", "height": height, "width": width})
    categories = [{"id": c + 1, "name": f"colour {c}"} for c in range(5)]
    content = {"images": images, "annotations": annotations, "categories": categories}
    (folder / "data.json").write_text(json.dumps(content))
    return str(folder / "data.json")


def losses(name: str, folder: Path) -> list[dict[str, float]]:
    """Train, and return the losses of each step."""
    cfg = small_config(
        name, "DATASETS.TRAIN", (DATA,), "DATASETS.TEST", (), "DATALOADER.NUM_WORKERS", 0,
        "SOLVER.IMS_PER_BATCH", 2, "INPUT.MIN_SIZE_TRAIN", (48, 64), "SOLVER.BASE_LR", 0.0025,
        "SOLVER.WARMUP_ITERS", 20, "SOLVER.MAX_ITER", STEPS, "SOLVER.STEPS", (40,), "SOLVER.LOG_PERIOD", 50,
        "SOLVER.CHECKPOINT_PERIOD", 0, "WRITERS.TENSORBOARD", False, "SOLVER.REPORT_PERIOD", 0,
        "OUTPUT_DIR", str(folder / name), "SEED", 3, *MODELS[name],
    )  # fmt: skip
    register_coco_instances(DATA, {}, write_data(folder), str(folder))
    found: list[dict[str, float]] = []

    def note(model: nn.Module, inputs: object, output: dict[str, torch.Tensor]) -> None:
        found.append({key: float(value.detach()) for key, value in output.items()})

    threads, dtype = torch.get_num_threads(), torch.get_default_dtype()
    try:
        torch.set_num_threads(1)
        torch.set_default_dtype(torch.float64)
        seed_all_rng(3)
        trainer = DefaultTrainer(cfg)
        trainer.model.register_forward_hook(note)
        trainer.train()
    finally:
        torch.set_num_threads(threads)
        torch.set_default_dtype(dtype)
        DatasetCatalog.remove(DATA)
        MetadataCatalog.remove(DATA)
    return found


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_losses_are_those_that_were_recorded(name: str, tmp_path: Path) -> None:
    records: dict[str, Any] = json.loads(RECORDS.read_text(encoding="utf-8"))
    found, wanted = losses(name, tmp_path), records["losses"][name]
    assert len(found) == len(wanted) == STEPS
    exactly = kind_of_machine() == records["machine"]
    for step, want in zip(found, wanted):
        assert step == (want if exactly else pytest.approx(want, rel=1e-4))


def test_the_recorded_losses_fall() -> None:
    for steps in json.loads(RECORDS.read_text(encoding="utf-8"))["losses"].values():
        totals = [sum(step.values()) for step in steps]
        tens = [sum(totals[i : i + 10]) for i in range(0, STEPS, 10)]
        assert tens[-1] < 0.8 * max(
            tens
        )  # RetinaNet's begins low, since it is divided by an average that begins high


def main() -> None:
    """Train all models, and write the record."""
    found = {}
    for name in MODELS:
        with tempfile.TemporaryDirectory() as folder:
            found[name] = losses(name, Path(folder))
    parts = ",\n".join(
        f'"{name}": [\n' + ",\n".join(json.dumps(s) for s in steps) + "\n]" for name, steps in found.items()
    )
    text = f'{{\n"machine": {json.dumps(kind_of_machine())},\n"losses": {{\n{parts}\n}}\n}}\n'
    RECORDS.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
