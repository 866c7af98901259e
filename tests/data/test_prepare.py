"""The prepare scripts and the loader benchmark, on small inputs of the real layout."""

import importlib.util
import json
import logging
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from PIL import Image

from detectron2.data.benchmark import DataLoaderBenchmark, iter_benchmark
from detectron2.data.datasets import load_coco_json

SCRIPTS = Path(__file__).parents[2] / "datasets"


def script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, SCRIPTS / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def run(name: str, *args: object) -> str:
    done = subprocess.run(
        [sys.executable, SCRIPTS / f"{name}.py", *map(str, args)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_ade20k(tmp_path: Path) -> None:
    for split in ("training", "validation"):
        folder = tmp_path / "ADEChallengeData2016" / "annotations" / split
        folder.mkdir(parents=True)
        Image.fromarray(np.array([[0, 1, 150]], np.uint8)).save(folder / "a.png")
    run("prepare_ade20k_sem_seg", tmp_path)
    made = tmp_path / "ADEChallengeData2016" / "annotations_detectron2" / "validation" / "a.png"
    assert np.asarray(Image.open(made)).tolist() == [[255, 0, 149]]


def test_cityscapes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "cityscapes" / "gtFine" / "val" / "ulm"
    folder.mkdir(parents=True)
    Image.fromarray(np.array([[0, 7, 33, 29, 11]], np.uint8)).save(folder / "a_gtFine_labelIds.png")
    # In this process: another one would import torch.
    monkeypatch.setattr(sys, "argv", ["prepare_cityscapes.py", str(tmp_path)])
    script("prepare_cityscapes").main()
    assert np.asarray(Image.open(folder / "a_gtFine_labelTrainIds.png")).tolist() == [[255, 0, 18, 255, 2]]


def test_panoptic_to_semantic(tmp_path: Path) -> None:
    module = script("prepare_panoptic_fpn")
    categories = [{"id": 5, "isthing": 1}, {"id": 90, "isthing": 0}, {"id": 40, "isthing": 0}]
    assert module.stuff_numbers(categories) == {5: 0, 40: 1, 90: 2}
    ids = np.array([[0, 1, 300, 70000]])
    rgb = np.stack([ids % 256, ids // 256 % 256, ids // 65536], -1).astype(np.uint8)
    (tmp_path / "pan").mkdir()
    Image.fromarray(rgb).save(tmp_path / "pan" / "a.png")
    segments = [{"id": 1, "category_id": 5}, {"id": 300, "category_id": 90}, {"id": 70000, "category_id": 40}]
    content = {"categories": categories, "annotations": [{"file_name": "a.png", "segments_info": segments}]}
    (tmp_path / "p.json").write_text(json.dumps(content))
    module.convert(
        tmp_path / "pan" / "a.png", tmp_path / "sem" / "a.png", segments, module.stuff_numbers(categories)
    )
    assert np.asarray(Image.open(tmp_path / "sem" / "a.png")).tolist() == [[255, 0, 2, 1]]


def test_cocofied_lvis() -> None:
    module = script("prepare_cocofied_lvis")
    lvis = {
        "categories": [
            {"id": 1, "name": "human", "synset": "person.n.01"},
            {"id": 2, "name": "acorn", "synset": "acorn.n.01"},
        ],
        "annotations": [{"id": 1, "category_id": 1}, {"id": 2, "category_id": 2}],
        "images": [{"id": 1, "neg_category_ids": [1, 2]}],
    }
    coco = [{"id": 1, "name": "person", "isthing": 1}, {"id": 92, "name": "banner", "isthing": 0}]
    made = module.cocofy(lvis, {"person.n.01": 1}, coco)
    assert made["annotations"] == [{"id": 1, "category_id": 1}]
    assert [c["name"] for c in made["categories"]] == ["person"] and made["images"][0][
        "neg_category_ids"
    ] == [1]


def test_small_part_of_coco(tmp_path: Path) -> None:
    folder = tmp_path / "coco" / "annotations"
    folder.mkdir(parents=True)
    content = {
        "images": [{"id": i, "file_name": f"{i}.jpg", "height": 5, "width": 5} for i in range(30)],
        "annotations": [{"id": i, "image_id": i, "category_id": 1, "bbox": [0, 0, 1, 1]} for i in range(30)],
        "categories": [{"id": 1, "name": "person"}],
    }
    for kind in ("instances", "person_keypoints"):
        (folder / f"{kind}_val2017.json").write_text(json.dumps(content))
    run("prepare_for_tests", tmp_path, "--images", 7)
    parts = [
        load_coco_json(str(folder / f"{k}_val2017_100.json"), "") for k in ("instances", "person_keypoints")
    ]
    assert len(parts[0]) == 7 and parts[0] == parts[1]


def test_loader_benchmark(caplog: pytest.LogCaptureFixture) -> None:
    mean, quantiles = iter_benchmark(iter(range(100)), 20, warmup=2)
    assert quantiles[0] <= mean <= quantiles[-1] and len(quantiles) == 15
    benchmark = DataLoaderBenchmark(
        [{"i": i} for i in range(30)], mapper=lambda r: r, total_batch_size=2, num_workers=1
    )
    with caplog.at_level(logging.INFO, logger="detectron2.data.benchmark"):
        for part in ("dataset", "mapper", "workers", "IPC", "distributed"):
            getattr(benchmark, f"benchmark_{part}")(4, warmup=1)
    lines = [r.getMessage() for r in caplog.records if "ms a step" in r.getMessage()]
    assert len(lines) == 6 and all("elements/s" in line for line in lines)
