"""`tools/yaml_to_python`: a YAML config as a Python config."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from detectron2 import model_zoo
from detectron2.config import get_cfg
from detectron2.engine.run_config.files import diff

TOOL = Path(__file__).resolve().parents[2] / "tools" / "yaml_to_python"
sys.path.insert(0, str(TOOL))
try:
    from convert import FORMS, ConversionError, to_python
    from key_table import RULES, key_table
finally:
    sys.path.remove(str(TOOL))


@pytest.mark.slow
def test_the_program_prints_python(tmp_path: Path) -> None:
    name = "COCO-Detection/retinanet_R_50_FPN_1x.yaml"
    done = subprocess.run(
        [sys.executable, str(TOOL), name, "SOLVER.MAX_ITER", "7"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "cfg.train.max_iter = 7" in done.stdout
    keys = subprocess.run(
        [sys.executable, str(TOOL), "--keys", "gamma"], capture_output=True, text=True, check=True
    )
    assert "lr_multiplier.scheduler" in keys.stdout


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


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMS, ids=lambda f: f.name)
def test_converted_configs_build_the_same_model(form: Any) -> None:
    from detectron2.config import instantiate
    from detectron2.modeling import build_model

    cfg = model_zoo.get_config(form.base)
    cfg.MODEL.DEVICE = "cpu"
    one, two = build_model(cfg).state_dict(), instantiate(to_python(cfg).config.model).state_dict()
    assert {k: v.shape for k, v in one.items()} == {k: v.shape for k, v in two.items()}
