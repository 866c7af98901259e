"""Names of Caffe2: they can be imported, and any use says what to use instead."""

from __future__ import annotations

import importlib
from typing import Any

import pytest

from detectron2 import export

MODULES = ("api", "c10", "caffe2_export", "caffe2_inference", "caffe2_modeling", "caffe2_patch", "shared")


def test_tracer_is_importable_and_raises_on_use() -> None:
    from detectron2.export import Caffe2Tracer

    with pytest.raises(NotImplementedError, match=r"Caffe2Tracer is not available.*export_program"):
        Caffe2Tracer("cfg", "model", "inputs")
    assert Caffe2Tracer is importlib.import_module("detectron2.export.api").Caffe2Tracer


@pytest.mark.parametrize("module", MODULES)
def test_any_name_of_a_retired_module_is_a_stand_in(module: str) -> None:
    name = f"detectron2.export.{module}"
    owner = importlib.import_module(name)
    with pytest.raises(NotImplementedError, match=f"{name}.get_pb_arg_vali is not available"):
        owner.get_pb_arg_vali(1, "name", 0)
    with pytest.raises(AttributeError):
        owner._private


@pytest.mark.parametrize(
    "use",
    [
        lambda table: table["GeneralizedRCNN"],
        lambda table: "GeneralizedRCNN" in table,
        lambda table: list(table),
        lambda table: table.register,
        lambda table: table(),
        lambda table: len(table),
    ],
)
def test_every_use_raises(use: Any) -> None:
    from detectron2.export.caffe2_modeling import META_ARCH_CAFFE2_EXPORT_TYPE_MAP as table

    with pytest.raises(NotImplementedError, match="META_ARCH_CAFFE2_EXPORT_TYPE_MAP"):
        use(table)


def test_subclasses_can_be_defined_and_not_made() -> None:
    from detectron2.export.caffe2_modeling import Caffe2MetaArch

    class Own(Caffe2MetaArch):
        pass

    with pytest.raises(export.RetiredError, match=r"caffe2_modeling\.Caffe2MetaArch"):
        Own()
    assert not isinstance(3, Own)


def test_other_names_are_missing_as_usual() -> None:
    assert not hasattr(export, "NoSuchName")
    assert all(hasattr(export, name) for name in export.__all__)
