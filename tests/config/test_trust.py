"""A config file of somebody else calls only what models, data and evaluations are made of."""

import re
import sys
import types
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf

from detectron2 import model_zoo
from detectron2.config import LazyCall, LazyConfig, UntrustedTargetError, get_cfg, instantiate, trusted
from detectron2.config.python.targets import resolve
from detectron2.config.yacs.yaml_files import MAX_DEPTH, parse
from detectron2.model_zoo.paths import config_names

HOSTILE = [
    "os.system",
    "os.mkdir",
    "posix.system",
    "subprocess.Popen",
    "builtins.exec",
    "builtins.eval",
    "builtins.open",
    "builtins.__import__",
    "importlib.import_module",
    "runpy.run_path",
    "pickle.loads",
    "functools.partial",
    "shutil.rmtree",
    "ctypes.CDLL",
    # loaders of code or of pickles
    "torch.load",
    "torch.hub.load",
    "torch.jit.load",
    "torch.package.PackageImporter",
    "torch.fx.GraphModule",
    "torch.utils.cpp_extension.load",
    "numpy.load",
    "yaml.unsafe_load",
    "omegaconf.OmegaConf.load",
    "PIL.Image.open",
    "pytest.main",
    "detectron2.config.LazyConfig.load",
    "detectron2.config.lazy.LazyConfig.load_rel",
    "detectron2.config.instantiate",
    "detectron2.config.trusted",
    "detectron2.config.python.load.load",
    "detectron2.config.python.targets.resolve",
    "detectron2.utils.registry.locate.__call__",
    "detectron2.utils.env.setup_environment",
    "detectron2.utils.env._import_file",
    "detectron2.utils.tracing.assert_fx_safe",
    "detectron2.utils.file_io.PathManager.rm",
    "detectron2.utils.file_io.atomic.atomic_write",
    "detectron2.model_zoo.get_config",
    "detectron2.engine.launch.launch",
    "detectron2.cli.main",
    "detectron2.data.datasets.coco.convert_to_coco_json",
    "detectron2.data.DatasetCatalog.register",
    # attributes of attributes, and what allowed modules import
    "detectron2.data.build.itertools.chain",
    "detectron2.utils.file_io.base.os.system",
    "torch.nn.Module.__subclasses__",
    "torch.nn.modules.module.functools.partial",
    "torch.nn.functional.importlib.import_module",
    "torch.os.system",
    "torchvision.os.system",
    "torchvision.models._api.sys.modules.clear",
    "torchvision.datasets.utils.download_url",
    "detectron2.layers.Conv2d.__init__.__globals__.get",
]


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("form", ["call", "reference", "partial", "nested"])
def test_hostile_names_are_refused_in_every_form(name: str, form: str) -> None:
    cfg: dict[str, Any] = {
        "call": {"_target_": name},
        "reference": {"_target_": "detectron2.utils.registry.locate", "name": name},
        "partial": {"_target_": "detectron2.config.python.targets.partial_of", "function": name},
        "nested": {"_target_": "torch.nn.ModuleList", "modules": [{"_target_": {"_target_": name}}]},
    }[form]
    with pytest.raises(ImportError):  # not allowed, or not there: UntrustedTargetError is one of these
        instantiate(OmegaConf.create(cfg))


@pytest.mark.parametrize(
    "name",
    [
        "builtins.dict",
        "collections.Counter",
        "torch.nn.Conv2d",
        "torch.nn.modules.activation.GELU",
        "torch.nn.functional.relu",
        "torch.nn.functional.conv2d",
        "torch.optim.AdamW",
        "torch.optim.lr_scheduler.CosineAnnealingLR",
        "torchvision.models.resnet18",
        "torchvision.ops.FeaturePyramidNetwork",
        "torchvision.transforms.Normalize",
        "detectron2.modeling.ResNet",
        "detectron2.modeling.ResNet.make_default_stages",
        "detectron2.modeling.backbone.vit.get_vit_lr_decay_rate",
        "detectron2.data.transforms.RandomFlip",
        "detectron2.data.build_detection_train_loader",
        "detectron2.evaluation.COCOEvaluator",
        "detectron2.solver.build.get_default_optimizer_params",
        "fvcore.common.param_scheduler.CosineParamScheduler",
    ],
)
def test_parts_are_found(name: str) -> None:
    assert callable(resolve(name))


def test_dtypes_and_partials_of_saved_configs_are_found() -> None:
    locate = "detectron2.utils.registry.locate"
    assert instantiate({"_target_": locate, "name": "torch.float16"}) is torch.float16
    assert instantiate({"_target_": locate, "name": "torch.nn.GELU"}) is torch.nn.GELU


def test_timm_reads_no_files() -> None:
    pytest.importorskip("timm")
    for arguments in ({"checkpoint_path": "evil.pth"}, {"pretrained_cfg": {"file": "evil.pth"}}):
        for target in ("timm.create_model", "detectron2.modeling.backbone.timm.TimmBackbone"):
            key = "model_name" if target == "timm.create_model" else "name"
            with pytest.raises(UntrustedTargetError, match="may contain code"):
                instantiate({"_target_": target, key: "resnet18", **arguments})
    with pytest.raises(UntrustedTargetError, match="hf-hub"):
        instantiate({"_target_": "timm.create_model", "model_name": "hf-hub:some/model"})


@pytest.fixture
def my_app(monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    module = types.ModuleType("my_app")
    exec(
        "import os\nclass Trainer:\n    def __init__(self, a): self.a = a\ndef make(): return 3\n",
        vars(module),
    )
    monkeypatch.setitem(sys.modules, "my_app", module)
    return module


def test_the_programs_own_callables_are_found_once_it_has_imported_them(my_app: types.ModuleType) -> None:
    assert instantiate({"_target_": "my_app.Trainer", "a": 2}).a == 2
    assert instantiate({"_target_": "my_app.make"}) == 3
    with pytest.raises(UntrustedTargetError, match=r"my_app\.os\.system"):
        instantiate({"_target_": "my_app.os.system", "command": "true"})


def test_a_module_beside_the_config_is_not_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "lurking.py").write_text("import os\nos.mkdir('marker')\ndef f(): pass\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(UntrustedTargetError, match="--import lurking"):
        instantiate({"_target_": "lurking.f"})
    assert not (tmp_path / "marker").exists()
    assert instantiate({"_target_": "lurking.f"}, trust=True) is None
    assert (tmp_path / "marker").exists()


def test_trust_ends_with_its_block() -> None:
    cfg = {"_target_": "math.sqrt", "x": 4}
    with pytest.raises(UntrustedTargetError, match=r"trust=True.*--trust"):
        instantiate({"_target_": "os.getcwd"})
    with trusted():
        assert instantiate({"_target_": "os.getcwd"})
    with pytest.raises(UntrustedTargetError):
        instantiate(cfg)


def test_names_that_python_code_writes_need_no_trust() -> None:
    with pytest.raises(UntrustedTargetError):
        instantiate({"_target_": "fractions.Fraction", "numerator": 3})
    assert instantiate(LazyCall("fractions.Fraction")(numerator=3)) == 3
    assert instantiate({"_target_": "fractions.Fraction", "numerator": 3}) == 3


def _targets(node: Any) -> set[str]:
    if isinstance(node, dict):
        own = {node["_target_"]} if isinstance(node.get("_target_"), str) else set()
        name = {node["name"]} if node.get("_target_") == "detectron2.utils.registry.locate" else set()
        return own.union(name, *(_targets(v) for v in node.values()))
    return set().union(*(_targets(v) for v in node)) if isinstance(node, list) else set()


RECIPES = [n for n in config_names() if n.endswith(".py") and not n.startswith("common/")]
SOME = [n for n in RECIPES if re.search("panoptic_fpn_R_50_1x|fcos|COCO/cascade_mask_rcnn_swin_b_in21k", n)]


@pytest.mark.parametrize("names", [SOME, pytest.param(RECIPES, marks=pytest.mark.slow)], ids=["some", "all"])
def test_every_target_of_the_zoos_saved_configs_is_allowed(names: list[str], tmp_path: Path) -> None:
    found: set[str] = set()
    for name in names:
        LazyConfig.save(model_zoo.get_config(name), str(tmp_path / "x.yaml"))
        found |= _targets(parse((tmp_path / "x.yaml").read_text()))
    found = {
        n for n in found if not n.startswith(("torch.float", "torch.utils.data", "torchvision.datasets"))
    }
    assert len(found) > 30
    for name in found:
        resolve(name)


# ------------------------------------------------------------ YAML
def many_aliases() -> str:
    lines = ["a0: &x0 [q, q, q, q, q, q, q, q, q, q]"]
    lines += [f"a{i}: &x{i} [{', '.join([f'*x{i - 1}'] * 10)}]" for i in range(1, 10)]
    return "\n".join(lines)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        pytest.param(many_aliases(), "through its aliases", id="aliases"),
        pytest.param("a: &x [*x]", "contains itself", id="circle"),
        pytest.param("a: " + "[" * 3000 + "]" * 3000, "deep", id="deep list"),
        pytest.param("{a: " * (MAX_DEPTH + 1) + "1" + "}" * (MAX_DEPTH + 1), "deep", id="deep mapping"),
        pytest.param("a: 2026-13-45", "month", id="date"),
        pytest.param("a: " + "9" * 5000, "digits", id="number"),
        pytest.param("a: !!python/object/apply:os.system [true]", "no code", id="object"),
        pytest.param("a: [1, 2", "not valid", id="cut off"),
        pytest.param("a: \x01", "not valid", id="control character"),
        pytest.param(b"\xff\xfea\x00:\x00 \x00", "x.yaml", id="half utf-16"),
    ],
)
def test_bad_yaml_is_one_clear_error(text: str | bytes, says: str) -> None:
    with pytest.raises(ValueError, match=says) as error:
        if parse(text, "x.yaml") == {"a": None}:  # PyYAML may read half a file as a whole one
            raise ValueError("x.yaml")
    assert "x.yaml" in str(error.value)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_encodings_of_config_files(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "x.yaml").write_bytes("OUTPUT_DIR: 결과\n".encode(encoding))
    cfg = get_cfg()
    cfg.merge_from_file(str(tmp_path / "x.yaml"))
    assert cfg.OUTPUT_DIR == "결과"
