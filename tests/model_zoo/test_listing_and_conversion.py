"""Finding and listing configs, and writing one kind of config as the other."""

from typing import Any

import pytest

from detectron2 import model_zoo
from detectron2.config import LazyConfig, get_cfg
from detectron2.config.key_table import RULES, key_table
from detectron2.engine.run_config import load_run_config, run_config
from detectron2.engine.run_config.files import diff, flatten
from detectron2.model_zoo.convert import FORMS, ConversionError, to_python
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


def test_key_table_names_keys_that_exist() -> None:
    known = set(get_cfg().leaf_keys())
    assert [r.old for r in RULES if r.old not in known] == []
    assert len({r.old for r in RULES}) == len(RULES)
    assert all(len(row) == 3 for row in key_table())


@pytest.mark.parametrize("form", FORMS, ids=lambda f: f.name)
def test_the_zoos_yaml_form_converts_into_its_python_form(form: Any) -> None:
    yacs, lazy = model_zoo.get_config(form.base), model_zoo.get_config(form.template)
    forth = to_python(yacs)
    assert forth.lost == []
    assert [(c.key, c.left) for c in diff(forth.config, lazy)] == [("train.eval_period", 0)]


CHANGES = [
    "MODEL.ROI_HEADS.NUM_CLASSES", 7, "MODEL.RPN.PRE_NMS_TOPK_TEST", 300, "MODEL.ROI_BOX_HEAD.NUM_CONV", 4,
    "MODEL.ROI_BOX_HEAD.NORM", "GN", "MODEL.RPN.BBOX_REG_LOSS_TYPE", "giou", "MODEL.RPN.BBOX_REG_LOSS_WEIGHT", 2.0,
    "SOLVER.STEPS", (100, 150), "SOLVER.MAX_ITER", 200, "SOLVER.GAMMA", 0.5, "SOLVER.WARMUP_ITERS", 20,
    "INPUT.RANDOM_FLIP", "vertical", "INPUT.CROP.ENABLED", True, "INPUT.CROP.SIZE", [0.5, 0.5],
    "DATASETS.TRAIN", ("a", "b"), "TEST.DETECTIONS_PER_IMAGE", 33, "MODEL.FPN.OUT_CHANNELS", 64, "SEED", 4,
]  # fmt: skip


@pytest.mark.parametrize("masks", [True, False])
def test_changed_values_are_taken_over(masks: bool) -> None:
    cfg = model_zoo.get_config("COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_1x.yaml")
    cfg.merge_from_list([*CHANGES, "MODEL.MASK_ON", masks])
    forth = to_python(cfg)
    assert forth.lost == []
    assert forth.config.model.proposal_generator.loss_weight.loss_rpn_loc == 2.0
    assert forth.config.model.roi_heads.box_head.input_shape.channels == 64
    lazy = forth.config
    assert lazy.model.roi_heads.num_classes == 7
    assert lazy.model.proposal_generator.pre_nms_topk[1] == 300
    assert (lazy.train.max_iter, lazy.train.seed) == (200, 4)
    assert list(lazy.dataloader.train.dataset.names) == ["a", "b"]
    assert lazy.model.roi_heads.box_predictor.test_topk_per_image == 33
    assert list(lazy.lr_multiplier.scheduler.milestones) == [100, 150, 200]
    assert ("mask_head" in lazy.model.roi_heads) == masks


def test_what_has_no_place_is_listed() -> None:
    cfg = model_zoo.get_config("COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_1x.yaml")
    cfg.MODEL.RESNETS.DEFORM_ON_PER_STAGE = [True] * 4
    cfg.TEST.AUG.ENABLED = True
    assert to_python(cfg).lost == ["MODEL.RESNETS.DEFORM_ON_PER_STAGE", "TEST.AUG.ENABLED"]


def test_architectures_without_another_form() -> None:
    with pytest.raises(ConversionError, match="ProposalNetwork"):
        to_python(model_zoo.get_config("COCO-Detection/rpn_R_50_FPN_1x.yaml"))


def test_flatten_takes_calls_apart() -> None:
    flat = flatten(model_zoo.get_config("COCO-PanopticSegmentation/panoptic_fpn_R_50_1x.py"))
    assert flat["dataloader.evaluator.1._target_"] == "detectron2.evaluation.SemSegEvaluator"
    assert flat["model.sem_seg_head.input_shape.p3.channels"] == 256


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMS, ids=lambda f: f.name)
def test_converted_configs_build_the_same_model(form: Any) -> None:
    from detectron2.config import instantiate
    from detectron2.modeling import build_model

    cfg = model_zoo.get_config(form.base)
    cfg.MODEL.DEVICE = "cpu"
    one, two = build_model(cfg).state_dict(), instantiate(to_python(cfg).config.model).state_dict()
    assert {k: v.shape for k, v in one.items()} == {k: v.shape for k, v in two.items()}
