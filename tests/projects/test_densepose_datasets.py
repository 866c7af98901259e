"""DensePose: catalogs, files of annotations, categories, the mapper and the loaders of annotated data."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.projects.densepose.data import build, utils
from detectron2.projects.densepose.data.dataset_mapper import DatasetMapper, build_augmentation
from detectron2.projects.densepose.data.datasets import coco, lvis
from detectron2.projects.densepose.data.meshes.catalog import MeshCatalog, MeshInfo, register_mesh
from detectron2.structures import BoxMode

sys.path.insert(0, str(Path(__file__).parent))
from densepose_data import annotation, chart_keys, config, register

FACTS = json.loads(
    (Path(__file__).parents[1] / "parity" / "zoo" / "projects_metadata.json").read_text(encoding="utf-8")
)
DATASETS = {n: d["metadata"] for n, d in FACTS["datasets"].items() if d["project"] == "densepose"}


# ------------------------------------------------------------------ catalogs
@pytest.mark.parametrize("name", DATASETS)
def test_datasets_are_registered(name: str) -> None:
    assert name in DatasetCatalog.list()
    have = MetadataCatalog.get(name).as_dict()
    for key, value in DATASETS[name].items():
        found = have[key]
        assert value == (f"DatasetType.{found.name}" if key == "dataset_type" else found), key


def test_videos_without_annotations_are_no_records() -> None:
    assert DatasetCatalog.get("chimpnsee") == []


@pytest.mark.parametrize("fact", FACTS["meshes"], ids=lambda f: f["name"])
def test_meshes(fact: dict[str, Any]) -> None:
    info = MeshCatalog[fact["name"]]
    assert MeshCatalog.get_mesh_id(fact["name"]) == fact["id"]
    assert MeshCatalog.get_mesh_name(fact["id"]) == fact["name"]
    assert {k: getattr(info, k) for k in ("data", "geodists", "symmetry", "texcoords")} == {
        k: fact[k] for k in ("data", "geodists", "symmetry", "texcoords")
    }


def test_a_mesh_registered_again_keeps_its_number() -> None:
    register_mesh(MeshInfo("test_cube", "cube.pkl", geodists="/abs.pkl"), "base")
    number = MeshCatalog.get_mesh_id("test_cube")
    register_mesh(MeshInfo("test_cube", "other.pkl"), "base")
    assert MeshCatalog.get_mesh_id("test_cube") == number
    assert MeshCatalog["test_cube"] == MeshInfo("test_cube", "base/other.pkl")
    del MeshCatalog["test_cube"]
    with pytest.raises(KeyError, match="no mesh is registered"):
        MeshCatalog.get_mesh_id("test_cube")
    with pytest.raises(KeyError, match="9999"):
        MeshCatalog.get_mesh_name(9999)


def test_paths() -> None:
    assert utils.maybe_prepend_base_path("b", "x") == "b/x"
    assert [utils.maybe_prepend_base_path("b", p) for p in ("/x", "http://x")] == ["/x", "http://x"]
    assert utils.maybe_prepend_base_path(None, "x") == "x"


# ------------------------------------------------------------------ files
def test_coco_file(tmp_path: Path) -> None:
    crowd = annotation(
        3, 2, [1, 1, 5, 5], iscrowd=1, segmentation={"size": [60, 80], "counts": [10, 20, 4770]}
    )
    bad = annotation(4, 2, [1, 1, 5, 5], segmentation=[[1, 1, 2, 2]])
    with_keypoints = annotation(2, 1, [2, 2, 9, 9], keypoints=[5, 6, 2, 0, 0, 0])
    first = annotation(1, 2, [10, 10, 40, 40], **chart_keys(0))
    register(tmp_path, "dp_file", [first, with_keypoints, crowd, bad], images=(2, 1), frame_id=7, vid_id=9)
    one, two = DatasetCatalog.get("dp_file")
    assert (one["image_id"], two["image_id"]) == (1, 2)
    assert two["file_name"] == str(tmp_path / "2.png") and two["dataset"] == "dp_file"
    assert (one["frame_id"], one["video_id"]) == (7, 9)
    assert [set(a) & coco.DENSEPOSE_ALL_POSSIBLE_KEYS for a in two["annotations"]] == [
        set(chart_keys(0)),
        set(),
    ]
    assert one["annotations"][0]["keypoints"] == [5.5, 6.5, 2, 0.5, 0.5, 0]
    assert two["annotations"][0]["bbox_mode"] == BoxMode.XYWH_ABS
    assert isinstance(two["annotations"][1]["segmentation"]["counts"], bytes)
    metadata = MetadataCatalog.get("dp_file")
    assert metadata.categories == {1: "person"}
    assert metadata.video_frame_mapping == {9: {7: str(tmp_path / "2.png")}}


def test_repeated_ids_and_missing_boxes_raise(tmp_path: Path) -> None:
    register(tmp_path, "dp_twice", [annotation(1, 1, [0, 0, 5, 5]), annotation(1, 2, [0, 0, 5, 5])])
    with pytest.raises(ValueError, match="annotation ids are used more than once"):
        DatasetCatalog.get("dp_twice")
    register(tmp_path, "dp_no_box", [{**annotation(1, 1, [0, 0, 5, 5]), "bbox": []}])
    with pytest.raises(ValueError, match="has no bbox"):
        DatasetCatalog.get("dp_no_box")


def test_lvis_file(tmp_path: Path) -> None:
    content = register(tmp_path, "dp_lvis", [annotation(1, 1, [0, 0, 5, 5], **chart_keys(0))])
    for image in content["images"]:
        image.update(
            coco_url=f"http://images.cocodataset.org/val2017/{image['id']:012d}.jpg", neg_category_ids=[4]
        )
        del image["file_name"]
    (tmp_path / "dp_lvis.json").write_text(json.dumps(content))
    records = lvis.load_lvis_json(str(tmp_path / "dp_lvis.json"), "root/coco_", "dp_lvis")
    assert records[0]["file_name"] == "root/coco_val2017/000000000001.jpg"
    assert records[0]["neg_category_ids"] == [4] and records[0]["not_exhaustive_category_ids"] == []
    assert "dp_I" in records[0]["annotations"][0]


# ------------------------------------------------------------------ categories
ANIMALS = {1: "person", 3: "dog", 7: "ape"}


@pytest.fixture
def animals(tmp_path: Path) -> str:
    keys = chart_keys(0)
    boxes = [annotation(i, 1 + i // 4, [5, 5, 30, 30], c, **keys) for i, c in enumerate((1, 3, 7, 1, 3))]
    register(tmp_path, "dp_animals", boxes, categories=ANIMALS)
    return "dp_animals"


def test_categories_are_selected_and_merged(animals: str) -> None:
    cfg = config(train=(animals,), test=(animals,))
    cfg.DATASETS.WHITELISTED_CATEGORIES = CfgNode({animals: [1, 7]})
    cfg.DATASETS.CATEGORY_MAPS = CfgNode({animals: CfgNode({"7": 1})})
    cfg.DATASETS.CLASS_TO_MESH_NAME_MAPPING = CfgNode({"0": "smpl_27554"})
    batches = build.build_detection_test_loader(cfg, animals, mapper=lambda r: r)
    assert [[a["category_id"] for a in b[0]["annotations"]] for b in batches] == [[0, 0, 0]]
    metadata = MetadataCatalog.get(animals)
    assert metadata.thing_classes == ["person"]
    assert metadata.thing_dataset_id_to_contiguous_id == {1: 0, 7: 0}
    assert metadata.thing_dataset_id_to_merged_id == {1: 1, 7: 1}
    assert metadata.class_to_mesh_name == {0: "smpl_27554"}
    assert coco.get_contiguous_id_to_category_id_map(metadata) == {0: 1}


def test_a_second_config_overrides_the_first(animals: str) -> None:
    cfg = config(test=(animals,))
    build.build_detection_test_loader(cfg, animals)
    assert MetadataCatalog.get(animals).thing_classes == list(ANIMALS.values())
    cfg.DATASETS.WHITELISTED_CATEGORIES = CfgNode({animals: [3]})
    build.build_detection_test_loader(cfg, animals)
    assert MetadataCatalog.get(animals).thing_classes == ["dog"]


def test_loading_leaves_the_records_of_the_catalog_alone(animals: str) -> None:
    records = DatasetCatalog.get(animals)
    before = json.dumps(records, default=str)
    DatasetCatalog.register(animals, lambda: records, overwrite=True)
    MetadataCatalog.get(animals).categories = ANIMALS
    build.combine_detection_dataset_dicts([animals])
    assert json.dumps(records, default=str) == before


def test_unknown_categories_raise(animals: str) -> None:
    cfg = config(test=(animals,))
    cfg.DATASETS.WHITELISTED_CATEGORIES = CfgNode({animals: [1, 99]})
    with pytest.raises(ValueError, match="99"):
        build.build_detection_test_loader(cfg, animals)


def test_ground_truth_with_selected_categories(animals: str, tmp_path: Path) -> None:
    from pycocotools.coco import COCO

    DatasetCatalog.get(animals)
    MetadataCatalog.get(animals).__dict__["thing_dataset_id_to_contiguous_id"] = {1: 0, 7: 0}
    api = COCO(str(tmp_path / "dp_animals.json"))
    coco.maybe_filter_and_map_categories_cocoapi(animals, api)
    assert {c["id"] for c in api.dataset["categories"]} == {0}
    assert [a["category_id"] for a in api.dataset["annotations"]] == [0, 0, 0]
    api = COCO(str(tmp_path / "dp_animals.json"))
    coco.maybe_filter_categories_cocoapi(animals, api)
    assert [c["id"] for c in api.dataset["categories"]] == [1]
    assert [a["category_id"] for a in api.anns.values()] == [1, 1, 1]


def test_training_leaves_out_images_of_no_use(tmp_path: Path) -> None:
    crowd = annotation(1, 1, [5, 5, 30, 30], iscrowd=1, **chart_keys(0))
    plain = annotation(2, 2, [5, 5, 30, 30])
    good = annotation(3, 3, [5, 5, 30, 30], **chart_keys(1))
    register(tmp_path, "dp_useful", [crowd, plain, good], images=(1, 2, 3, 4))
    cfg = config(train=("dp_useful",), test=("dp_useful",))
    kept = [
        r["image_id"] for r in build.combine_detection_dataset_dicts(["dp_useful"], build._is_of_use(cfg))
    ]
    assert kept == [3]
    cfg.MODEL.ROI_DENSEPOSE_HEAD.COARSE_SEGM_TRAINED_BY_MASKS = True
    kept = [
        r["image_id"] for r in build.combine_detection_dataset_dicts(["dp_useful"], build._is_of_use(cfg))
    ]
    assert kept == [2, 3]
    # A test keeps what can be judged: images with any annotation.
    assert [b[0]["image_id"] for b in build.build_detection_test_loader(cfg, "dp_useful")] == [1, 2, 3]


# ------------------------------------------------------------------ mapper
@pytest.fixture
def people(tmp_path: Path) -> str:
    boxes = [annotation(1, 1, [10, 8, 40, 40], **chart_keys(0)), annotation(2, 1, [30, 20, 40, 30])]
    boxes.append(annotation(3, 2, [1, 1, 30, 30]))
    register(tmp_path, "dp_people", boxes)
    return "dp_people"


def test_mapper(people: str) -> None:
    cfg = config(train=(people,), test=(people,))
    one, two = DatasetCatalog.get(people)
    mapped = DatasetMapper(cfg, True)(one)
    assert mapped["image"].dtype == torch.float32 and mapped["image"].shape == (3, 60, 80)
    first, second = mapped["instances"].gt_densepose
    assert second is None
    np.testing.assert_allclose(first.x.numpy(), chart_keys(0)["dp_x"], rtol=1e-6)
    assert not mapped["instances"].has("gt_masks")
    assert not DatasetMapper(cfg, True)(two)["instances"].has("gt_densepose")
    assert "annotations" not in DatasetMapper(cfg, False)(one)


def test_mirrored_annotations(people: str) -> None:
    cfg = config(train=(people,), test=(people,))
    cfg.INPUT.RANDOM_FLIP = "horizontal"
    mapper = DatasetMapper(cfg, True)
    record = DatasetCatalog.get(people)[0]
    left = {round(float(mapper(record)["instances"].gt_boxes.tensor[0, 0])) for _ in range(30)}
    assert left == {10, 80 - 10 - 40}
    for _ in range(30):
        instances = mapper(record)["instances"]
        mirrored = round(float(instances.gt_boxes.tensor[0, 0])) == 30
        x = torch.tensor(chart_keys(0)["dp_x"])
        torch.testing.assert_close(instances.gt_densepose[0].x, 256 - x if mirrored else x)


def test_masks_come_from_parts_where_there_are_no_others(tmp_path: Path) -> None:
    bare = annotation(1, 1, [10, 8, 40, 40], **chart_keys(0))
    del bare["segmentation"]
    register(tmp_path, "dp_parts", [bare, annotation(2, 1, [30, 20, 40, 30])])
    cfg = config(train=("dp_parts",), test=("dp_parts",))
    cfg.MODEL.ROI_DENSEPOSE_HEAD.COARSE_SEGM_TRAINED_BY_MASKS = True
    masks = DatasetMapper(cfg, True)(DatasetCatalog.get("dp_parts")[0])["instances"].gt_masks.tensor
    # The parts fill 40..216 of 256 of the box in both directions.
    expected = torch.zeros(60, 80, dtype=torch.bool)
    low, high = round(40 / 256 * 40), round(216 / 256 * 40)
    expected[8 + low : 8 + high, 10 + low : 10 + high] = True
    assert (masks[0] != expected).sum() <= 4 * (high - low)
    assert masks[1].sum() == 40 * 30


def test_data_sets_with_other_symmetries_raise(people: str) -> None:
    MetadataCatalog.get("dp_other").densepose_transform_src = "other.mat"
    with pytest.raises(ValueError, match="densepose_transform_src"):
        DatasetMapper(config(train=(people, "dp_other")), True)


def test_augmentation_with_rotations() -> None:
    cfg = config()
    cfg.INPUT.ROTATION_ANGLES = [-20, 20]
    names = [type(a).__name__ for a in build_augmentation(cfg, True)]
    assert names == ["ResizeShortestEdge", "RandomRotation"]
    assert [type(a).__name__ for a in build_augmentation(cfg, False)] == ["ResizeShortestEdge"]


def test_training_loader_gives_batches(people: str) -> None:
    cfg = config(train=(people,), test=(people,))
    cfg.SOLVER.IMS_PER_BATCH = 2
    batch = next(iter(build.build_detection_train_loader(cfg)))
    assert len(batch) == 2 and all(len(b["instances"].gt_densepose) == 2 for b in batch)
