"""Names of public models."""

import pytest

from detectron2.checkpoint.catalog import ModelCatalog, ModelCatalogHandler
from detectron2.utils.file_io import PathManager


def test_names_become_urls():
    prefix = "https://dl.fbaipublicfiles.com/detectron/"
    assert ModelCatalog.get("ImageNetPretrained/MSRA/R-50") == prefix + "ImageNetPretrained/MSRA/R-50.pkl"
    url = ModelCatalog.get("Caffe2Detectron/COCO/37697547/e2e_keypoint_rcnn_R-50-FPN_1x")
    assert url.startswith(prefix + "37697547/12_2017_baselines/e2e_keypoint_rcnn_R-50-FPN_1x.yaml.")
    assert url.endswith(
        f"/output/train/{ModelCatalog.C2_DATASET_COCO_KEYPOINTS}/generalized_rcnn/model_final.pkl"
    )
    assert "/rpn/" in ModelCatalog.get("Caffe2Detectron/COCO/35998355/rpn_R-50-C4_1x")
    with pytest.raises(RuntimeError, match="MSRA/R-50"):
        ModelCatalog.get("ImageNetPretrained/MSRA/R50")


def test_catalog_paths_go_to_the_url(monkeypatch):
    asked = []

    def fetch(path, force=False, **kwargs):
        asked.append(path)
        return "/local"

    handler = ModelCatalogHandler()
    monkeypatch.setattr(PathManager, "get_local_path", fetch)
    assert handler._get_local_path("catalog://ImageNetPretrained/MSRA/R-101") == "/local"
    assert asked == ["https://dl.fbaipublicfiles.com/detectron/ImageNetPretrained/MSRA/R-101.pkl"]
    assert handler._get_supported_prefixes() == ["catalog://"]
