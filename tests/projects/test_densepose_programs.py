"""DensePose: the trainer and the command-line programs."""

from __future__ import annotations

import argparse
import json
import logging
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.modeling import build_model
from detectron2.projects.densepose import apply_net, query_db
from detectron2.projects.densepose.engine import trainer as trainer_module
from detectron2.projects.densepose.engine.trainer import (
    SampleCountingLoader,
    SampleCountMetricPrinter,
    Trainer,
)
from detectron2.projects.densepose.evaluation import point_similarity
from detectron2.projects.densepose.structures import DensePoseChartResultWithConfidences
from detectron2.structures import Boxes, Instances
from detectron2.utils.events import EventStorage

sys.path.insert(0, str(Path(__file__).parent))
from densepose_data import annotation, chart_keys, exact_prediction, register, small_surface
from densepose_samples import cse_cfg, make_mesh, small_cfg


@pytest.fixture
def people(tmp_path: Path) -> str:
    boxes = ([10.0, 8.0, 40.0, 40.0], [30.0, 16.0, 44.0, 38.0])
    found = [annotation(i + 1, 1 + i % 2, box, **chart_keys(i)) for i, box in enumerate(boxes)]
    register(tmp_path, "dp_train", found)
    return "dp_train"


def training_cfg(name: str, folder: Path, cfg: CfgNode | None = None) -> CfgNode:
    cfg = cfg or small_cfg()
    cfg.DATASETS.TRAIN = cfg.DATASETS.TEST = (name,)
    cfg.DATALOADER.NUM_WORKERS = 0
    cfg.INPUT.MIN_SIZE_TRAIN, cfg.INPUT.MIN_SIZE_TEST = (64,), 64
    cfg.SOLVER.IMS_PER_BATCH, cfg.SOLVER.MAX_ITER, cfg.SOLVER.BASE_LR = 2, 2, 1e-4
    cfg.MODEL.WEIGHTS = ""
    cfg.OUTPUT_DIR = str(folder / "out")
    return cfg


# ------------------------------------------------------------------ trainer
def test_training_and_evaluation(people: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(point_similarity, "load_smpl_geodesics", small_surface)
    cfg = training_cfg(people, tmp_path)
    cfg.TEST.EVAL_PERIOD = 2
    trainer = Trainer(cfg)
    assert any(isinstance(w, SampleCountMetricPrinter) for w in trainer.build_writers())
    trainer.resume_or_load(resume=False)
    results = trainer.train()
    assert results is not None
    assert {"bbox", "densepose_gps", "densepose_gpsm", "densepose_segm"} <= set(results)
    lines = (tmp_path / "out" / "metrics.json").read_text().splitlines()
    losses = [v for line in lines for k, v in json.loads(line).items() if k.startswith("loss_densepose")]
    assert losses and np.isfinite(losses).all()


def test_evaluators_are_built_after_the_loader(
    people: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The loader says which categories are in use; this holds for test-time augmentation too."""
    monkeypatch.setattr(point_similarity, "load_smpl_geodesics", small_surface)
    cfg = training_cfg(people, tmp_path)
    cfg.TEST.AUG.MIN_SIZES, cfg.TEST.AUG.FLIP = (64,), False
    results = Trainer.test_with_TTA(cfg, build_model(cfg))
    assert {"bbox_TTA", "densepose_gps_TTA"} <= set(results)
    with pytest.raises(ValueError, match="1 test datasets"):
        Trainer.test(cfg, build_model(cfg), [])


def test_embeddings_learn_at_their_own_rate(tmp_path: Path) -> None:
    make_mesh(tmp_path, "dp_rate")
    cfg = training_cfg("none", tmp_path, cse_cfg("dp_rate"))
    cfg.MODEL.ROI_DENSEPOSE_HEAD.CSE.EMBEDDING_LR_FACTOR = 3.0
    model = build_model(cfg)
    embedder = Trainer.extract_embedder_from_model(model)
    assert embedder is not None and Trainer.extract_embedder_from_model(torch.nn.Linear(1, 1)) is None
    own = {id(p) for p in embedder.parameters()}
    rates = {
        (id(p) in own): g["lr"] for g in Trainer.build_optimizer(cfg, model).param_groups for p in g["params"]
    }
    assert rates[True] == pytest.approx(3 * rates[False])


def test_sources_of_training_data_are_counted(caplog: pytest.LogCaptureFixture) -> None:
    def element(name: str, n: int) -> dict[str, Any]:
        return {"dataset": name, "instances": Instances((9, 9), gt_boxes=Boxes(torch.zeros(n, 4)))}

    loader = SampleCountingLoader([[element("a", 2), element("b", 1), element("a", 3)]])
    with EventStorage() as storage, caplog.at_level(logging.INFO, "detectron2"):
        assert len(next(iter(loader))) == 3
        assert storage.latest()["batch/a"][0] == 5 and storage.latest()["batch/b"][0] == 1
        logging.getLogger(trainer_module.__name__).propagate = True
        SampleCountMetricPrinter().write()


# ------------------------------------------------------------------ command lines
def arguments_of(parser: argparse.ArgumentParser) -> dict[str, dict[str, Any]]:
    """Flags, defaults and numbers of values of each command."""
    commands = next(a for a in parser._actions if isinstance(a, argparse._SubParsersAction))
    return {
        name: {
            (a.option_strings or [a.dest])[-1]: (
                a.default if a.default != argparse.SUPPRESS else None,
                a.nargs,
            )
            for a in sub._actions
            if a.dest != "help"
        }
        for name, sub in commands.choices.items()
    }


def test_command_lines() -> None:
    common = {
        "--verbosity": (None, 0),
        "cfg": (None, None),
        "model": (None, None),
        "input": (None, None),
        "--opts": ([], "..."),
    }
    assert arguments_of(apply_net.create_argument_parser()) == {
        "dump": {**common, "--output": ("results.pkl", None)},
        "show": {
            **common,
            "visualizations": (None, None),
            "--min_score": (0.8, None),
            "--nms_thresh": (None, None),
            "--texture_atlas": (None, None),
            "--texture_atlases_map": (None, None),
            "--output": ("outputres.png", None),
        },
    }
    common = {
        "--verbosity": (None, 0),
        "dataset": (None, None),
        "selector": (None, None),
        "--max-entries": (None, None),
    }
    assert arguments_of(query_db.create_argument_parser()) == {
        "print": common,
        "show": {**common, "visualizations": (None, None), "--output": ("output.png", None)},
    }
    assert set(apply_net.VISUALIZERS) == {
        "bbox", "dp_contour", "dp_cse_texture", "dp_iuv_texture", "dp_segm", "dp_u", "dp_v", "dp_vertex",
    }  # fmt: skip


@pytest.fixture
def model_files(tmp_path: Path) -> list[str]:
    """Config, checkpoint and a folder with two images."""
    cfg = small_cfg()
    cfg.INPUT.MIN_SIZE_TEST = 64
    torch.manual_seed(0)
    torch.save({"model": build_model(cfg).state_dict()}, tmp_path / "model.pth")
    (tmp_path / "cfg.yaml").write_text(cfg.dump())
    (tmp_path / "in").mkdir()
    rng = np.random.default_rng(0)
    for name in "ab":
        Image.fromarray(rng.integers(0, 255, (48, 64, 3), dtype=np.uint8)).save(
            tmp_path / "in" / f"{name}.png"
        )
    return [str(tmp_path / n) for n in ("cfg.yaml", "model.pth", "in")]


def test_dump(model_files: list[str], tmp_path: Path) -> None:
    output = str(tmp_path / "new" / "results.pkl")
    apply_net.main(
        ["dump", *model_files, "--output", output, "-v", "--opts", "TEST.DETECTIONS_PER_IMAGE", "3"]
    )
    results = torch.load(output, weights_only=False)
    assert [Path(r["file_name"]).name for r in results] == ["a.png", "b.png"]
    for result in results:
        assert len(result["scores"]) == len(result["pred_boxes_XYXY"]) == len(result["pred_densepose"]) <= 3
        assert all(isinstance(d, DensePoseChartResultWithConfidences) for d in result["pred_densepose"])


def test_show(model_files: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("cv2")
    atlas = np.full((60, 40, 3), 90, np.uint8)
    Image.fromarray(atlas).save(tmp_path / "atlas.png")
    found = exact_prediction([annotation(1, 1, [10.0, 8.0, 30.0, 30.0], **chart_keys(0))], (48, 64))
    monkeypatch.setattr(
        apply_net, "_predictions", lambda cfg, given: [("a", np.zeros((48, 64, 3), np.uint8), found)]
    )
    names = "bbox,dp_segm,dp_u,dp_v,dp_contour,dp_iuv_texture"
    options = ["--min_score", "0.1", "--texture_atlas", str(tmp_path / "atlas.png")]
    apply_net.main(["show", *model_files, names, *options, "--output", str(tmp_path / "out" / "x.png")])
    drawn = np.asarray(Image.open(tmp_path / "out" / "x.0001.png"))
    assert drawn.shape == (48, 64, 3) and drawn[12:30, 14:36].any()


def test_show_from_end_to_end(model_files: list[str], tmp_path: Path) -> None:
    pytest.importorskip("cv2")
    apply_net.main(
        [
            "show",
            *model_files,
            "dp_u,bbox",
            "--min_score",
            "0",
            "--nms_thresh",
            "0.4",
            "--output",
            str(tmp_path / "y.png"),
        ]
    )
    assert sorted(p.name for p in tmp_path.glob("y.*")) == ["y.0001.png", "y.0002.png"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("input", "nowhere"), "no images"),
        (("visualizations", "dp_x"), "dp_x"),
        (("visualizations", "dp_iuv_texture"), "--texture_atlas"),
    ],
)
def test_wrong_arguments_of_apply_net(change: tuple[str, str], message: str, model_files: list[str]) -> None:
    given = {"input": model_files[2], "visualizations": "bbox", change[0]: change[1]}
    with pytest.raises(SystemExit, match=message):
        apply_net.main(["show", *model_files[:2], given["input"], given["visualizations"]])


def test_print_records(people: str, capsys: pytest.CaptureFixture[str]) -> None:
    query_db.main(["print", people, "image_id:int=2"])
    printed = capsys.readouterr().out
    assert "'image_id': 2" in printed and "'image_id': 1" not in printed and "dp_I" in printed
    query_db.main(["print", people, "*", "--max-entries", "1"])
    assert capsys.readouterr().out.count("'image_id'") == 1
    for wrong in (
        ["print", "no_such_set", "*"],
        ["print", people, "image_id"],
        ["show", people, "*", "dp_x"],
    ):
        with pytest.raises(SystemExit, match="query_db"):
            query_db.main(wrong)


def test_show_records(people: str, tmp_path: Path) -> None:
    pytest.importorskip("cv2")
    names = ",".join(query_db.VISUALIZERS)
    query_db.main(["show", people, "*", names, "--output", str(tmp_path / "z.png")])
    assert sorted(p.name for p in tmp_path.glob("z.*")) == ["z.0001.png", "z.0002.png"]
    drawn = np.asarray(Image.open(tmp_path / "z.0001.png"))
    coloured = (drawn != drawn[..., :1]).any(2)
    assert coloured[15:40, 15:40].any() and not coloured[:, 62:].any()
    assert DatasetCatalog.get(people) and MetadataCatalog.get(people).categories == {1: "person"}
