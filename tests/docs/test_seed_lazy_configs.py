"""What readers of tutorials on LazyConfig were told works, one test for each statement."""

import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch
from omegaconf import DictConfig

from detectron2 import model_zoo
from detectron2.config import LazyCall as L
from detectron2.config import LazyConfig, instantiate


def test_dictionaries_of_a_python_file_become_a_config(tmp_path: Path) -> None:
    (tmp_path / "config.py").write_text("a = dict(x=1, y=2, z=dict(xx=1))\nb = dict(x=3, y=4)\n")
    cfg = LazyConfig.load(str(tmp_path / "config.py"))
    assert cfg.a.z.xx == 1 and set(cfg) == {"a", "b"}


def test_config_files_are_python_with_arithmetic_functions_and_types(tmp_path: Path) -> None:
    (tmp_path / "config.py").write_text(
        "import math\n\ndef double(n):\n    return 2 * n\n\n"
        "base = dict(rate=0.02 / 16, steps=double(3), pair=(1, 2), root=math.sqrt(4))\n"
        "base.pop('pair')\nmore = dict(base, extra=True)\n"
    )
    cfg = LazyConfig.load(str(tmp_path / "config.py"))
    assert (cfg.base.steps, cfg.base.root, cfg.more.extra) == (6, 2.0, True) and "pair" not in cfg.base
    assert cfg.base.rate == 0.02 / 16


def test_values_are_omegaconf_with_attributes_and_interpolation(tmp_path: Path) -> None:
    (tmp_path / "config.py").write_text('a = dict(n=4, same="${.n}")\n')
    cfg = LazyConfig.load(str(tmp_path / "config.py"))
    assert isinstance(cfg, DictConfig) and cfg.a.same == cfg["a"]["n"] == 4


def test_relative_imports_take_configs_without_a_package(tmp_path: Path) -> None:
    (tmp_path / "common").mkdir()
    (tmp_path / "common/base.py").write_text("a = dict(x=1)\n")
    (tmp_path / "config.py").write_text("from .common.base import a\n\na.x = a.x + 1\n")
    (tmp_path / "other.py").write_text("from os.path import join\n\nb = dict(path=join('p', 'q'))\n")
    assert LazyConfig.load(str(tmp_path / "config.py")).a.x == 2
    assert LazyConfig.load(str(tmp_path / "other.py")).b.path.endswith("q")
    (tmp_path / "by_call.py").write_text(
        "from detectron2.config import LazyConfig\n\n(a,) = LazyConfig.load_rel('common/base.py', ('a',))\n"
    )
    assert LazyConfig.load(str(tmp_path / "by_call.py")).a.x == 1


def test_a_config_is_saved_as_yaml_unless_it_holds_a_lambda(tmp_path: Path) -> None:
    cfg = DictConfig({"model": L(torch.nn.Linear)(in_features=2, out_features=3)})
    LazyConfig.save(cfg, str(tmp_path / "saved.yaml"))
    assert isinstance(instantiate(LazyConfig.load(str(tmp_path / "saved.yaml")).model), torch.nn.Linear)
    odd = DictConfig({"f": lambda x: x}, flags={"allow_objects": True})
    LazyConfig.save(odd, str(tmp_path / "odd.yaml"))  # does not stop a training, but YAML cannot hold it
    assert not callable(LazyConfig.load(str(tmp_path / "odd.yaml")).get("f"))


@pytest.fixture
def my_app(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    module = ModuleType("my_app")
    source = (
        "class Optimizer:\n    def __init__(self, lr, algo):\n        self.lr, self.algo = lr, algo\n\n"
        "class Trainer:\n    def __init__(self, optimizer):\n        self.optimizer = optimizer\n"
    )
    exec(source, vars(module))
    monkeypatch.setitem(sys.modules, "my_app", module)
    return module


def test_a_call_is_a_dictionary_that_instantiate_makes_an_object_of(my_app: ModuleType) -> None:
    cfg = L(my_app.Trainer)(optimizer=L(my_app.Optimizer)(lr=0.01, algo="SGD"))
    plain = {
        "_target_": "my_app.Trainer",
        "optimizer": {"_target_": "my_app.Optimizer", "lr": 0.01, "algo": "SGD"},
    }
    for described in (cfg, plain):
        trainer = instantiate(described)
        assert isinstance(trainer, my_app.Trainer) and (trainer.optimizer.lr, trainer.optimizer.algo) == (
            0.01,
            "SGD",
        )


def test_classes_of_other_libraries_need_nothing() -> None:
    conv = {"_target_": "torch.nn.Conv2d", "in_channels": 10, "out_channels": 10, "kernel_size": 1}
    assert isinstance(instantiate(conv), torch.nn.Conv2d)


def test_a_whole_mask_rcnn_is_described_by_calls() -> None:
    cfg = model_zoo.get_config("COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_1x.py").model
    assert cfg._target_.__name__ if callable(cfg._target_) else str(cfg._target_).endswith("GeneralizedRCNN")
    assert cfg.backbone.in_features == cfg.backbone.bottom_up.out_features == ["res2", "res3", "res4", "res5"]
    assert cfg.proposal_generator.anchor_generator.strides == [4, 8, 16, 32, 64]
    assert cfg.roi_heads.box_predictor.num_classes == cfg.roi_heads.num_classes == 80
    assert cfg.roi_heads.mask_head.conv_dims == [256] * 5 and cfg.input_format == "BGR"
    cfg.roi_heads.num_classes = 2
    with torch.device("meta"):
        assert instantiate(cfg).roi_heads.box_predictor.cls_score.out_features == 3


def test_zoo_configs_share_their_names() -> None:
    cfg = model_zoo.get_config("COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_1x.py")
    assert {"model", "dataloader", "optimizer", "lr_multiplier", "train"} <= set(cfg)
    assert {"train", "test", "evaluator"} <= set(cfg.dataloader)
    assert cfg.dataloader.train.total_batch_size == 16 and cfg.optimizer.lr == 0.02
    shown = LazyConfig.to_py(cfg)
    assert "total_batch_size" in shown and "optimizer" in shown


def test_values_are_overridden_from_a_list() -> None:
    cfg = model_zoo.get_config("COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_1x.py")
    cfg = LazyConfig.apply_overrides(cfg, ["optimizer.lr=0.5", "train.max_iter=3"])
    assert (cfg.optimizer.lr, cfg.train.max_iter) == (0.5, 3)


def test_a_config_trains_a_classifier_that_is_not_of_this_package() -> None:
    cfg = model_zoo.get_config("Misc/torchvision_imagenet_R_50.py")
    assert "torchvision" in LazyConfig.to_py(cfg.model)
