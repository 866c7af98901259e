"""Finding, listing, showing and comparing configs."""

from typing import Any

import pytest

from detectron2 import model_zoo
from detectron2.config import LazyConfig, get_cfg
from detectron2.engine.run_config import load_run_config, run_config
from detectron2.engine.run_config.files import diff, flatten
from detectron2.model_zoo.listing import entries, find_config, rows
from detectron2.model_zoo.published import PUBLISHED


def test_published_figures_belong_to_configs_with_weights() -> None:
    trained = {e.path.rsplit(".", 1)[0] for e in entries(trained=True)}
    assert len(PUBLISHED) == 55
    assert set(PUBLISHED) <= trained
    best = model_zoo.listing._entry("COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_3x.yaml").figures
    assert (best.box_ap, best.other_ap, best.infer_seconds, best.train_memory) == (41.0, 37.2, 0.043, 3.4)


def test_filters_and_sorting() -> None:
    assert {e.task for e in entries(task="keypoint")} == {"keypoints"}
    assert all("fpn" in e.path.lower() and "mask" in e.path for e in entries("mask fpn"))
    assert all(e.checkpoint for e in entries(trained=True))
    assert not [e for e in entries() if e.path.startswith(("common/", "quick_schedules/"))]
    assert len([e for e in entries(runnable=False, quick=True) if "/configs/" not in e.path]) == 130
    found = rows(entries("COCO-Detection/faster*"), sort="box_ap")
    figures = [r["box AP"] for r in found]
    assert figures == sorted(figures, reverse=True)
    assert rows(entries(), sort="infer_seconds")[-1]["test s/image"] is None
    with pytest.raises(ValueError, match="box_ap"):
        rows([], sort="boxap")


def test_short_names() -> None:
    assert find_config("mask_rcnn_R_50_FPN_3x") == "COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_3x.yaml"
    assert find_config("fcos_R_50_FPN_1x") == "COCO-Detection/fcos_R_50_FPN_1x.py"
    assert find_config("retinanet_R_50_FPN_1x.py") == "COCO-Detection/retinanet_R_50_FPN_1x.py"
    with pytest.raises(ValueError, match="mask_rcnn_R_50_FPN_3x"):
        find_config("mask_rcnn_R50_FPN_3x")
    with pytest.raises(ValueError, match="LVISv1"):
        find_config("mask_rcnn_R_101_FPN_1x")


def print_config(name: str, form: str) -> str:
    return load_run_config(model_zoo.get_config_file(find_config(name))).render(form)


def test_rendering() -> None:
    text = print_config("COCO-Detection/rpn_R_50_FPN_1x.yaml", "py")
    assert "cfg.MODEL.META_ARCHITECTURE = 'ProposalNetwork'" in text
    assert "ProposalNetwork" in print_config("COCO-Detection/rpn_R_50_FPN_1x.yaml", "yaml")
    assert "cfg.model = detectron2.modeling." in print_config("fcos_R_50_FPN_1x", "py")
    assert "_target_: detectron2.modeling" in print_config("fcos_R_50_FPN_1x", "yaml")
    with pytest.raises(ValueError, match="yaml"):
        run_config(get_cfg()).render("json")


def test_diff_of_each_kind() -> None:
    a, b = get_cfg(), get_cfg()
    b.SOLVER.MAX_ITER = 5
    assert [(c.key, c.left, c.right) for c in diff(a, b)] == [("SOLVER.MAX_ITER", 40000, 5)]
    name = "COCO-Detection/retinanet_R_50_FPN_1x.py"
    x, y = model_zoo.get_config(name), model_zoo.get_config(name)
    assert diff(x, y) == []
    LazyConfig.apply_overrides(y, ["optimizer.lr=1.0", "+train.seed=3"])
    assert [c.key for c in diff(x, y)] == ["optimizer.lr", "train.seed"]
    with pytest.raises(TypeError, match="keys in common"):
        diff(a, x)


def test_either_kind_of_file_is_loaded(tmp_path: Any) -> None:
    yacs = model_zoo.get_config_file("COCO-Detection/rpn_R_50_FPN_1x.yaml")
    assert load_run_config(yacs, ["SOLVER.MAX_ITER", "3"]).cfg.SOLVER.MAX_ITER == 3
    lazy = load_run_config(
        model_zoo.get_config_file("COCO-Detection/retinanet_R_50_FPN_1x.py"), ["train.max_iter=3"]
    ).cfg
    assert lazy.train.max_iter == 3
    LazyConfig.save(lazy, str(tmp_path / "lazy.yaml"))
    assert load_run_config(tmp_path / "lazy.yaml", ["train.max_iter=4"]).cfg.train.max_iter == 4


def test_flatten_takes_calls_apart() -> None:
    flat = flatten(model_zoo.get_config("COCO-PanopticSegmentation/panoptic_fpn_R_50_1x.py"))
    assert flat["dataloader.evaluator.1._target_"] == "detectron2.evaluation.SemSegEvaluator"
    assert flat["model.sem_seg_head.input_shape.p3.channels"] == 256
