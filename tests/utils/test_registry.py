"""Registries, dotted paths, nearest names, atomic writes."""

import os
import stat
import sys
from pathlib import Path

import pytest

from detectron2.utils.file_io.atomic import atomic_write
from detectron2.utils.registry import Registry, _convert_target_to_string, locate
from detectron2.utils.suggest import closest, did_you_mean


def test_registry() -> None:
    registry = Registry("THINGS")

    @registry.register()
    class First: ...

    @registry.register
    def second() -> None: ...

    registry.register(First)  # twice the same: nothing happens
    assert registry.get("First") is First
    assert dict(registry) == {"First": First, "second": second}
    assert "second" in registry
    assert len(registry) == 2
    assert registry
    assert "THINGS" in repr(registry)
    with pytest.raises(KeyError, match=r"THINGS registry\. Did you mean 'First'"):
        registry.get("Frist")
    other = type("First", (), {})
    with pytest.raises(ValueError, match="already"):
        registry.register(other)
    assert registry.get("First") is First


def test_locate_finds_modules_classes_methods_and_builtins() -> None:
    import os.path
    from collections import OrderedDict

    assert locate("collections.OrderedDict") is OrderedDict
    assert locate("collections.OrderedDict.fromkeys") == OrderedDict.fromkeys
    assert locate("os.path") is os.path
    assert locate("dict") is dict


@pytest.mark.parametrize(
    "name, words",
    [
        ("collections.OrderdDict", "OrderedDict"),
        ("nothing_here.x", "no module 'nothing_here'"),
        ("a b", "dotted path"),
        ("", "dotted path"),
        ("collections.OrderedDict.nope", r"'collections\.OrderedDict' has no 'nope'"),
    ],
)
def test_locate_says_what_is_missing(name: str, words: str) -> None:
    with pytest.raises(ImportError, match=words):
        locate(name)


def test_a_module_that_lacks_a_package_is_not_taken_for_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "needs_more.py").write_text("import package_that_is_not_there\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ImportError, match="needs 'package_that_is_not_there'"):
        locate("needs_more.x")


def test_shortest_path_of_an_object_leads_back_to_it() -> None:
    from detectron2.config import CfgNode, LazyConfig

    assert _convert_target_to_string(CfgNode) == "detectron2.config.CfgNode"
    for target in (CfgNode, LazyConfig.load, os.path.join, closest):
        assert locate(_convert_target_to_string(target)) is target


def test_nearest_names() -> None:
    known = ["MODEL.MASK_ON", "MODEL.KEYPOINT_ON", "SOLVER.BASE_LR"]
    assert closest("MODEL.MASKON", known)[0] == "MODEL.MASK_ON"
    assert closest("base_lr", known)[0] == "SOLVER.BASE_LR"
    assert closest("MODEL.BASE_LR", known)[0] == "SOLVER.BASE_LR"
    assert closest("zzz", known) == []
    assert did_you_mean("zzz", known).startswith("Known: ")
    assert did_you_mean("x", []) == ""
    assert "200 known" in did_you_mean("zzz", [f"name{i}" for i in range(200)])
    assert did_you_mean("maks_on", ["mask_on"]) == "Did you mean 'mask_on'?"


@pytest.mark.parametrize("mode, old, new", [("w", "old", "new €"), ("wb", b"old", b"new")])
def test_atomic_write_replaces_whole_files(
    tmp_path: Path, mode: str, old: str | bytes, new: str | bytes
) -> None:
    path = tmp_path / "deep" / "file"
    with atomic_write(path, mode) as f:
        f.write(old)
    os.chmod(path, 0o640)
    with pytest.raises(RuntimeError), atomic_write(path, mode) as f:
        f.write(new)
        raise RuntimeError
    read = path.read_bytes() if mode == "wb" else path.read_text("utf-8")
    assert read == old
    with atomic_write(path, mode) as f:
        f.write(new)
        assert (path.read_bytes() if mode == "wb" else path.read_text("utf-8")) == old
    assert (path.read_bytes() if mode == "wb" else path.read_text("utf-8")) == new
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert os.listdir(path.parent) == ["file"]


@pytest.mark.skipif(sys.platform == "win32", reason="links need rights on Windows")
def test_atomic_write_keeps_links(tmp_path: Path) -> None:
    (tmp_path / "real").write_text("a")
    (tmp_path / "link").symlink_to("real")
    with atomic_write(tmp_path / "link") as f:
        f.write("b")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real").read_text() == "b"


def test_atomic_write_has_two_modes(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="mode"), atomic_write(tmp_path / "x", "a"):
        pass


def test_registering_under_a_given_name_leaves_the_object_alone() -> None:
    registry = Registry("THING")

    @registry.register(name="other")
    def make() -> int:
        return 3

    assert registry.get("other") is make and make.__name__ == "make"
    assert "make" not in registry
    with pytest.raises(ValueError, match="other"):
        registry.register(len, name="other")
