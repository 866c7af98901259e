"""Every config of the zoo resolves to the reference values, and survives saving and printing."""

import ast
import functools
import json
from pathlib import Path
from typing import Any

import pytest
from omegaconf import DictConfig, OmegaConf

from detectron2 import model_zoo
from detectron2.config import CfgNode, LazyConfig, get_cfg
from detectron2.config.python.save import to_plain

from ..projects.facts import some_slow

REFERENCE = Path(__file__).resolve().parents[1] / "parity" / "zoo"
YAML: dict[str, dict[str, Any]] = json.loads((REFERENCE / "yaml_configs.json").read_text())
LAZY: dict[str, dict[str, Any]] = json.loads((REFERENCE / "lazy_configs.json").read_text())
CHECKPOINTS: dict[str, str] = json.loads((REFERENCE / "checkpoints.json").read_text())
# Holds a network and a transform as objects, which no text can describe.
WITH_OBJECTS = "Misc/torchvision_imagenet_R_50.py"
PLAIN = [n for n in LAZY if n != WITH_OBJECTS]


def flat(cfg: Any, prefix: str = "") -> dict[str, Any]:
    found = {}
    for key, value in cfg.items():
        found.update(flat(value, f"{prefix}{key}.") if hasattr(value, "items") else {prefix + key: value})
    return found


def as_json(value: Any) -> Any:
    return json.loads(json.dumps(value))


@functools.cache
def lazy(name: str) -> DictConfig:
    return LazyConfig.load(model_zoo.get_config_file(name))


def raw(cfg: Any) -> Any:
    return OmegaConf.to_container(cfg, resolve=False)


def differences(got: Any, want: Any, place: str = "") -> list[str]:
    """Places where a tree differs from the reference; ``<module.name>`` stands for an object."""
    if isinstance(want, dict):
        if not isinstance(got, dict) or set(got) != set(want):
            return [f"{place}: keys {got if not isinstance(got, dict) else sorted(set(got) ^ set(want))}"]
        return [d for k in want for d in differences(got[k], want[k], f"{place}.{k}")]
    if isinstance(want, list):
        if not isinstance(got, (list, tuple)) or len(got) != len(want):
            return [f"{place}: {got} for {want}"]
        return [d for i, w in enumerate(want) for d in differences(got[i], w, f"{place}[{i}]")]
    if isinstance(want, str) and want.startswith("<"):
        return [] if same_object(got, want) else [f"{place}: {got} for {want[:80]}"]
    return [] if type(got) is type(want) and got == want else [f"{place}: {got!r} for {want!r}"]


def same_object(got: Any, want: str) -> bool:
    if want.endswith("<lambda>>"):  # a partial serves the same end and can be saved
        return callable(got)
    if want.startswith("<functools.functools.partial"):
        return isinstance(got, functools.partial) and want == f"<functools.{got!r}>"
    if want.endswith(")>"):  # an object, by its repr
        return want == f"<{type(got).__module__}.{got!r}>"
    moved = want.startswith(("<fvcore.", "<None.", "<builtins."))
    name = got.__qualname__ if moved else f"{got.__module__}.{got.__qualname__}"
    return name == (want[1:-1].rsplit(".", 1)[-1] if moved else want[1:-1])


def test_counts() -> None:
    from detectron2.model_zoo.paths import config_names

    assert (len(YAML), len(LAZY), len(CHECKPOINTS)) == (92, 38, 64)
    assert {n for n in config_names() if "/configs/" not in n} == {*YAML, *LAZY}


@pytest.mark.parametrize("name", YAML)
def test_yaml_config_equals_reference(name: str) -> None:
    defaults = flat(get_cfg())
    cfg = model_zoo.get_config(name)
    changed = {k: as_json(v) for k, v in flat(cfg).items() if v != defaults[k]}
    assert changed == YAML[name]
    assert all(type(v) is type(defaults[k]) or None in (v, defaults[k]) for k, v in flat(cfg).items())


@pytest.mark.parametrize("name", some_slow(YAML, list(YAML)[::8]))
def test_yaml_config_round_trip(name: str, tmp_path: Path) -> None:
    cfg = model_zoo.get_config(name)
    (tmp_path / "saved.yaml").write_text(cfg.dump())
    again = get_cfg()
    again.merge_from_file(str(tmp_path / "saved.yaml"))
    assert as_json(again.as_dict()) == as_json(cfg.as_dict())


@pytest.mark.parametrize("name", LAZY)
def test_python_config_equals_reference(name: str) -> None:
    assert differences(raw(lazy(name)), LAZY[name]) == []


@pytest.mark.parametrize("name", some_slow(LAZY, [*PLAIN[::6], WITH_OBJECTS]))
def test_python_config_round_trip(name: str, tmp_path: Path) -> None:
    cfg = lazy(name)
    path = str(tmp_path / "saved.yaml")
    LazyConfig.save(cfg, path)
    assert (tmp_path / "saved.yaml.pkl").exists() == (name == WITH_OBJECTS)
    again = LazyConfig.load(path)
    LazyConfig.save(again, str(tmp_path / "twice.yaml"))
    assert raw(LazyConfig.load(str(tmp_path / "twice.yaml"))) == raw(again)
    if name != WITH_OBJECTS:
        lost: list[str] = []
        from omegaconf import SCMode

        plain = to_plain(
            OmegaConf.to_container(cfg, resolve=False, structured_config_mode=SCMode.INSTANTIATE), lost
        )
        assert raw(again) == plain
        assert not lost


def evaluate(text: str) -> dict[str, Any]:
    """Read what ``to_py`` printed: calls become dictionaries with ``_target_``, dotted names become text."""
    tree: dict[str, Any] = {}
    for statement in ast.parse(text).body:
        assert isinstance(statement, ast.Assign)
        *path, last = ast.unparse(statement.targets[0]).split(".")[1:]
        node = tree
        for part in path:
            node = node.setdefault(part, {})
        node[last] = value_of(statement.value)
    return tree


def value_of(node: ast.expr) -> Any:
    if isinstance(node, ast.Call):
        name = ast.unparse(node.func)
        if name == "float":
            return float(ast.literal_eval(node.args[0]))
        if node.args:
            return {
                "_partial_": [value_of(a) for a in node.args],
                **{k.arg: value_of(k.value) for k in node.keywords},
            }
        return {"_target_": name, **{k.arg: value_of(k.value) for k in node.keywords}}
    if isinstance(node, ast.List):
        return [value_of(v) for v in node.elts]
    if isinstance(node, ast.Dict):
        return {ast.literal_eval(k): value_of(v) for k, v in zip(node.keys, node.values) if k is not None}
    if isinstance(node, (ast.Attribute, ast.Name)):
        return ast.unparse(node)
    return ast.literal_eval(node)


def named(value: Any) -> Any:
    """The tree that ``evaluate`` should find: objects by their dotted names."""
    import dataclasses

    from detectron2.config.python.targets import target_name

    if isinstance(value, dict):
        return {k: named(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [named(v) for v in value]
    if isinstance(value, functools.partial):
        return {"_partial_": [target_name(value.func)], **{k: named(v) for k, v in value.keywords.items()}}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {f.name: named(getattr(value, f.name)) for f in dataclasses.fields(value)}
        return {"_target_": target_name(type(value)), **fields}
    return target_name(value) if callable(value) else value


@pytest.mark.parametrize("name", some_slow(PLAIN, PLAIN[::6]))
def test_printed_config_means_the_same(name: str) -> None:
    from omegaconf import SCMode

    cfg = lazy(name)
    text = LazyConfig.to_py(cfg)
    assert text == LazyConfig.to_py(LazyConfig.load(model_zoo.get_config_file(name)))
    assert max(map(len, text.splitlines())) <= 120
    resolved = OmegaConf.to_container(cfg, resolve=True, structured_config_mode=SCMode.INSTANTIATE)
    assert evaluate(text) == named(resolved)


def test_printed_config_with_objects_is_python_and_stable() -> None:
    text = LazyConfig.to_py(lazy(WITH_OBJECTS))
    ast.parse(text)
    assert "0x" not in text
    assert 'model=an_object("torchvision.models.ResNet"' in text
    assert text == LazyConfig.to_py(LazyConfig.load(model_zoo.get_config_file(WITH_OBJECTS)))


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_checkpoint_url(name: str) -> None:
    url = f"https://dl.fbaipublicfiles.com/detectron2/{name}/{CHECKPOINTS[name]}"
    known = [name + e for e in (".yaml", ".py") if name + e in {*YAML, *LAZY}]
    assert known
    assert all(model_zoo.get_checkpoint_url(path) == url for path in known)


@pytest.mark.parametrize("name", some_slow(CHECKPOINTS, list(CHECKPOINTS)[::6]))
def test_trained_config(name: str) -> None:
    for path in (name + e for e in (".yaml", ".py") if name + e in {*YAML, *LAZY}):
        url = model_zoo.get_checkpoint_url(path)
        cfg = model_zoo.get_config(path, trained=True)
        assert (cfg.MODEL.WEIGHTS if isinstance(cfg, CfgNode) else cfg.train.init_checkpoint) == url


def test_unknown_names_are_explained() -> None:
    with pytest.raises(ValueError, match=r"COCO-Detection/retinanet_R_50_FPN_1x\.yaml"):
        model_zoo.get_config("COCO-Detection/retinanet_R50_FPN_1x.yaml")
    with pytest.raises(RuntimeError, match="no weights were published"):
        model_zoo.get_config("COCO-Detection/fcos_R_50_FPN_1x.py", trained=True)


def test_repository_link_leads_to_the_package_data() -> None:
    link = Path(__file__).resolve().parents[2] / "configs"
    assert link.samefile(Path(model_zoo.get_config_file("Base-RCNN-FPN.yaml")).parent)
