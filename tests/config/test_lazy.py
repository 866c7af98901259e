"""Python configs: loading, relative imports, instantiation, saving, printing."""

import ast
import builtins
import dataclasses
import functools
import pickle
import threading
import warnings
from pathlib import Path
from typing import Any

import pytest
from omegaconf import DictConfig, ListConfig, OmegaConf

from detectron2.config import CfgNode, LazyConfig, UntrustedTargetError, configurable, instantiate, trusted
from detectron2.config import LazyCall as L
from detectron2.config.instantiate import dump_dataclass
from detectron2.config.python.targets import resolve


class Box:
    def __init__(self, a: Any, b: Any = 2) -> None:
        self.a, self.b = a, b


class Sink:
    def __init__(self, **kwargs: Any) -> None:
        self.kwargs = kwargs


@dataclasses.dataclass
class Shape:
    width: int = 1
    parts: list["Shape"] | None = None


def fail() -> None:
    raise RuntimeError("inner trouble")


def wants_number(x: int) -> int:
    return x + 1


def write(folder: Path, **files: str) -> None:
    for name, text in files.items():
        path = folder / (name.replace("__", "/") + ".py")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


# ------------------------------------------------------------ the documented statements
def test_load_gives_all_dictionaries(tmp_path: Path) -> None:
    write(tmp_path, config="a = dict(x=1, y=2, z=dict(xx=1))\nb = dict(x=3, y=4)\nn = 3\n_h = dict()\n")
    cfg = LazyConfig.load(str(tmp_path / "config.py"))
    assert cfg.a.z.xx == 1
    assert sorted(cfg) == ["a", "b"]
    assert isinstance(cfg.a, DictConfig)
    assert LazyConfig.load(str(tmp_path / "config.py"), "n") == 3


def test_relative_import_is_load_rel(tmp_path: Path) -> None:
    write(
        tmp_path,
        sub__leaf="d = dict(v=1)\n",
        one="from .sub.leaf import d\n",
        two="from detectron2.config import LazyConfig\nd = LazyConfig.load_rel('./sub/leaf.py', 'd')\n",
        sub__up="from ..one import d as e\nimport os\nfrom os import path\n",
        three="from .package import d\n",
        star="from .sub.leaf import *\n",
    )
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "__init__.py").write_text("d = dict(p=1)\n")
    for name in ("one", "two", "star"):
        assert LazyConfig.load(str(tmp_path / f"{name}.py")).d.v == 1
    assert LazyConfig.load(str(tmp_path / "sub/up.py")).e.v == 1
    assert LazyConfig.load(str(tmp_path / "three.py")).d.p == 1


@pytest.mark.parametrize(
    "statement, words",
    [
        ("from .sub.leav import d", r"sub/leav\.py: it does not exist.*'leaf'"),
        ("from .sub import leaf", "folder without __init__"),
        ("from . import x", "must name a file"),
        ("from .sub.leaf import dd", "defines no 'dd'.*'ddd'"),
        ("from .main import x", "circle"),
    ],
)
def test_wrong_imports_say_what_was_looked_for(tmp_path: Path, statement: str, words: str) -> None:
    before = builtins.__import__
    write(tmp_path, main=statement + "\n", sub__leaf="ddd = dict(v=1)\n")
    with pytest.raises(ImportError, match=words) as e:
        LazyConfig.load(str(tmp_path / "main.py"))
    assert str(tmp_path / "main.py") in str(e.value)
    assert builtins.__import__ is before


def test_imports_of_other_threads_are_not_touched(tmp_path: Path) -> None:
    write(
        tmp_path,
        main="import builtins, threading\nseen = dict(same=builtins.__import__)\nfrom .leaf import d\n",
        leaf="d = {}\n",
    )
    before = builtins.__import__
    results: list[Any] = []
    threads = [
        threading.Thread(target=lambda: results.append(LazyConfig.load(str(tmp_path / "main.py")).seen.same))
        for _ in range(4)
    ]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert results == [before] * 4


def test_files_and_keys_that_are_not_there(tmp_path: Path) -> None:
    write(tmp_path, main="first = {}\n")
    with pytest.raises(KeyError, match="'first'"):
        LazyConfig.load(str(tmp_path / "main.py"), "frist")
    with pytest.raises(ValueError, match="must end in"):
        LazyConfig.load("x.json")
    (tmp_path / "evil.yaml").write_text("a: !!python/object/apply:os.getcwd []\n")
    with pytest.raises(ValueError, match="no code is run"):
        LazyConfig.load(str(tmp_path / "evil.yaml"))


# ------------------------------------------------------------ calls
def test_lazy_call_is_a_dictionary() -> None:
    cfg = L(Box)(a=L(Box)(a=1), b=(1, 2))
    assert cfg._target_ is Box
    assert cfg.a.a == 1
    made = instantiate(cfg)
    assert (type(made.a), made.a.a, list(made.b)) == (Box, 1, [1, 2])


def test_interpolations_are_resolved_where_they_stand() -> None:
    cfg = OmegaConf.create({"n": 7}, flags={"allow_objects": True})
    cfg.model = L(Sink)(n="${..n}", inner=L(Sink)(n="${..n}"), items=[L(Sink)(n="${...n}")], same="${.inner}")
    model = instantiate(cfg.model)
    assert model.kwargs["inner"].kwargs["n"] == model.kwargs["items"][0].kwargs["n"] == 7
    assert isinstance(model.kwargs["items"], ListConfig)
    assert isinstance(model.kwargs["same"], Sink)


def test_calls_inside_plain_mappings_are_made() -> None:
    made = instantiate(L(Sink)(table={"x": {"y": L(Box)(a=1)}, "z": [L(Box)(a=2)]}, plain={"k": 1}))
    assert made.kwargs["table"].x.y.a == 1
    assert made.kwargs["table"].z[0].a == 2
    assert made.kwargs["plain"] == {"k": 1}
    assert instantiate({"x": [L(Box)(a=3)]})["x"][0].a == 3


def test_recursion_can_be_switched_off() -> None:
    made = instantiate({"_target_": Sink, "_recursive_": False, "inner": {"_target_": "no.such.thing"}})
    assert made.kwargs == {"inner": {"_target_": "no.such.thing"}}


def test_tuples_and_dataclasses_arrive_as_such() -> None:
    cfg = OmegaConf.create({"_target_": Sink, "pair": (1, 2)}, flags={"allow_objects": True})
    assert list(instantiate(cfg).kwargs["pair"]) == [1, 2]
    made = instantiate(L(Sink)(shape=Shape(3), shapes=[Shape(4)]))
    assert made.kwargs["shape"] == Shape(3)
    assert made.kwargs["shapes"][0] == Shape(4)


def test_dataclass_dump_is_inverted_by_instantiate() -> None:
    import detectron2.layers  # noqa: F401  (so that its classes have their short names)
    from detectron2.layers import ShapeSpec

    spec = ShapeSpec(channels=3, stride=4)
    assert instantiate(dump_dataclass(spec)) == spec
    with pytest.raises(TypeError):
        dump_dataclass(ShapeSpec)


@pytest.mark.parametrize(
    "cfg, error, words",
    [
        ({"_target_": "torch.nn.Conv3x"}, ImportError, "Conv3d"),
        ({"_target_": "no_such_module.x"}, ImportError, "no_such_module"),
        ({"_target_": 3}, TypeError, "callable"),
        (
            {"_target_": Box, "aa": 1},
            TypeError,
            r"Box has no argument 'aa'.*'a'.* and needs the argument 'a'",
        ),
        ({"_target_": Sink, "x": {"_target_": Box}}, TypeError, "x: .*Box needs the argument 'a'"),
    ],
)
def test_errors_name_place_target_and_argument(cfg: Any, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        instantiate(cfg)


def test_place_is_that_in_the_whole_config() -> None:
    cfg = OmegaConf.create({}, flags={"allow_objects": True})
    cfg.model = {"parts": [L(Box)()]}
    with pytest.raises(TypeError, match=r"^model\.parts\.0: .*Box needs"):
        instantiate(cfg.model.parts[0])


def test_errors_inside_a_target_are_kept_with_a_note() -> None:
    with pytest.raises(RuntimeError, match="inner trouble") as e:
        instantiate({"_target_": Sink, "x": {"_target_": fail}})
    assert "x: " in "".join(getattr(e.value, "__notes__", ["x: "]))
    with pytest.raises(TypeError, match=r"unsupported|concatenate"):
        instantiate({"_target_": wants_number, "x": "s"})


@pytest.mark.parametrize(
    "name", ["fvcore.common.param_scheduler.CosineParamScheduler", "iopath.common.file_io.PathManager"]
)
def test_old_homes_of_targets(name: str) -> None:
    with trusted():
        found = resolve(name)
    assert found.__module__.startswith("detectron2.") or type(found).__module__.startswith("detectron2.")


def test_schedule_saved_by_detectron2_instantiates() -> None:
    target = "fvcore.common.param_scheduler.MultiStepParamScheduler"
    schedule = instantiate({"_target_": target, "values": [1.0, 0.1], "milestones": [6, 10]})
    assert [schedule(x) for x in (0.5, 0.7)] == [1.0, 0.1]


def test_configurable_takes_both_kinds() -> None:
    class A:
        @configurable
        def __init__(self, a: int, b: int = 2) -> None:
            self.v = (a, b)

        @classmethod
        def from_config(cls, cfg: Any) -> dict[str, int]:
            return {"a": cfg.A}

    assert A(CfgNode({"A": 1})).v == A(OmegaConf.create({"A": 1})).v == A(1).v
    assert A(CfgNode({"A": 1}), b=5).v == (1, 5)
    with pytest.raises(TypeError, match="__init__"):
        configurable(wants_number)


# ------------------------------------------------------------ saving
def saved(cfg: Any, tmp_path: Path) -> Any:
    LazyConfig.save(cfg, str(tmp_path / "cfg.yaml"))
    return LazyConfig.load(str(tmp_path / "cfg.yaml"))


def test_objects_are_saved_as_calls(tmp_path: Path) -> None:
    import torch

    cfg = L(Sink)(
        layer=torch.nn.GELU,
        norm=functools.partial(torch.nn.LayerNorm, eps=1e-6),
        kind=torch.float16,
        shape=Shape(2, [Shape(3)]),
        method=OmegaConf.create,
        folder=tmp_path,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        again = saved(cfg, tmp_path)
    assert not (tmp_path / "cfg.yaml.pkl").exists()
    with pytest.raises(UntrustedTargetError, match=r"OmegaConf\.create"):
        instantiate(again)
    made = instantiate(again, trust=True).kwargs
    assert made["layer"] is torch.nn.GELU
    assert (made["norm"].func, made["norm"].keywords) == (torch.nn.LayerNorm, {"eps": 1e-6})
    assert made["kind"] is torch.float16
    assert (made["shape"].width, made["shape"].parts[0].width) == (2, 3)
    assert made["folder"] == str(tmp_path)
    assert cfg.layer is torch.nn.GELU


def test_what_yaml_cannot_hold_is_kept_beside_it(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    factor = 3
    cfg = L(Sink)(a=1, f=lambda x: x * factor)
    again = saved(cfg, tmp_path)
    assert "YAML cannot hold f" in caplog.text
    assert again.a == 1
    with pytest.raises(ValueError, match="without f"):
        instantiate(again)
    with open(tmp_path / "cfg.yaml.pkl", "rb") as f:
        whole = pickle.load(f)
    assert whole.f(2) == 6
    assert instantiate(whole).kwargs["f"](2) == 6


# ------------------------------------------------------------ printing
def test_printing_odd_keys_and_values() -> None:
    cfg = OmegaConf.create(
        {"a-b": {"c": 1}, "class": 2, "e": {}, "f": float("inf"), "s": 'q"q', "l": []},
        flags={"allow_objects": True},
    )
    cfg.call = L(Sink)(table={1: "x", "k": None}, fn=functools.partial(wants_number, x=1), lam=lambda: 0)
    text = LazyConfig.to_py(cfg)
    ast.parse(text)
    assert 'cfg["a-b"].c = 1' in text
    assert 'cfg["class"] = 2' in text
    assert "cfg.e = {}" in text
    assert 'cfg.f = float("inf")' in text
    assert "0x" not in text
    assert text == LazyConfig.to_py(cfg)


def test_printing_is_laid_out_as_black_does() -> None:
    black = pytest.importorskip("black")
    cfg = OmegaConf.create({}, flags={"allow_objects": True})
    cfg.model = L(Sink)(
        short=L(Box)(a=1),
        long=L(Box)(a=list(range(40)), b={"some_key": ["a" * 30, "b" * 30, "c" * 30], "other": None}),
        lots=[L(Box)(a=i, b="x" * 20) for i in range(4)],
    )
    text = LazyConfig.to_py(cfg)
    assert text == black.format_str(text, mode=black.Mode())
