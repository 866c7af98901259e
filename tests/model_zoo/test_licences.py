"""The zoo says what may be done with its entries."""

import json
import logging

import pytest
import torch

from detectron2.checkpoint import DetectionCheckpointer
from detectron2.cli import main
from detectron2.model_zoo.licences import FILTERS, fits
from detectron2.model_zoo.listing import entries
from detectron2.utils import licences
from detectron2.utils.file_io import PathManager

NON_COMMERCIAL = "https://dl.fbaipublicfiles.com/maskformer/some/model.pkl"


@pytest.fixture(autouse=True)
def _nothing_said(monkeypatch):
    monkeypatch.setattr(licences, "_said", set())


def test_every_published_checkpoint_has_a_licence():
    found = entries(trained=True, quick=True)
    assert len(found) > 150
    assert [e.path for e in found if e.licences.weights is licences.UNKNOWN] == []
    names = {e.path.split("/")[0]: e.licences.weights.name for e in found if "dino_vitdet" not in e.path}
    assert names["Mask2Former"] == "CC BY-NC 4.0"
    assert names["EVA-02"] == "MIT"
    assert names["DINO"] == "Apache-2.0"
    assert names["DensePose"] == names["COCO-Detection"] == "CC BY-SA 3.0"


def test_filters():
    permissive, commercial = (entries(licence=name) for name in FILTERS)
    assert {e.path.split("/")[0] for e in permissive} >= {"EVA-02", "DINO"}
    assert not {"Mask2Former", "COCO-Detection"} & {e.path.split("/")[0] for e in permissive}
    assert {e.path for e in permissive} < {e.path for e in commercial}
    assert not [e for e in commercial if "mask2former" in e.path.lower() or "cityscapes" in e.path.lower()]
    # Weights that others made from those of MAE are as restricted as these.
    assert [e for e in entries("DINO vitdet", trained=True) if fits(e.licences, "commercial")] == []
    assert [e for e in entries("ViTDet mask_rcnn_vitdet_b COCO", licence="commercial") if e.checkpoint]
    with pytest.raises(ValueError, match="permissive"):
        entries(licence="permisive")


def test_the_command_filters(capsys):
    assert main(["zoo", "--licence", "permissive", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert rows
    assert {r["weights licence"] for r in rows} <= {"MIT", "Apache-2.0", "BSD-3-Clause"}
    assert all(r["code licence"] and r["data licence"] for r in rows)
    assert main(["zoo", "mask2former", "coco", "swin_tiny"]) == 0
    shown = capsys.readouterr().out
    assert "CC BY-NC 4.0" in shown
    assert "COCO: CC BY 4.0" in shown


def test_loading_non_commercial_weights_is_one_line(tmp_path, monkeypatch, caplog):
    model = torch.nn.Linear(2, 2)
    path = tmp_path / "model.pth"
    torch.save({"model": model.state_dict()}, path)
    monkeypatch.setattr(PathManager, "get_local_path", lambda *args, **kwargs: str(path))
    caplog.set_level(logging.INFO, "detectron2")
    monkeypatch.setattr(logging.getLogger("detectron2"), "propagate", True)

    def said(address):
        caplog.clear()
        DetectionCheckpointer(model).load(address)
        return [text for r in caplog.records if "not for commercial use" in (text := r.getMessage())]

    first = said(NON_COMMERCIAL)
    assert len(first) == 1
    assert "CC BY-NC 4.0" in first[0]
    assert "\n" not in first[0]
    assert said(NON_COMMERCIAL) == []  # once in a process
    assert said("https://huggingface.co/Yuxin-CV/EVA-02/resolve/main/x.pth") == []
    assert said(str(path)) == []
    assert len(said("detectron2://ImageNetPretrained/MAE/mae_pretrain_vit_base.pth")) == 1
