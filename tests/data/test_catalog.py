"""Catalogs: names, clear errors, values that hold, built-in data sets."""

import copy
import json
import pickle
import re
from pathlib import Path

import numpy as np
import pytest

import detectron2
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.catalog import Metadata, forget, overwriting
from detectron2.data.datasets import builtin_meta, load_lvis_json, lvis_v0_5_categories, lvis_v1_categories
from detectron2.data.datasets import lvis_v1_category_image_count as lvis_counts
from detectron2.data.datasets.cityscapes import load_cityscapes_instances, load_cityscapes_semantic

FACTS = json.loads((Path(__file__).parents[1] / "parity" / "metadata.json").read_text())


@pytest.fixture(autouse=True)
def _forget():
    yield
    forget("cat_a", "cat_b")


def test_a_name_is_taken_once_unless_meant() -> None:
    DatasetCatalog.register("cat_a", lambda: [1])
    MetadataCatalog.get("cat_a").thing_classes = ["x"]
    with pytest.raises(ValueError, match=r"cat_a.*overwrite=True"):
        DatasetCatalog.register("cat_a", lambda: [2])
    DatasetCatalog.register("cat_a", lambda: [2], overwrite=True)
    assert DatasetCatalog.get("cat_a") == [2]
    MetadataCatalog.get("cat_a").thing_classes = ["y"]
    with overwriting():
        DatasetCatalog.register("cat_a", lambda: [3])
        MetadataCatalog.get("cat_a").thing_classes = ["y"]
        MetadataCatalog.get("cat_a").thing_classes = ["z"]
    assert MetadataCatalog.get("cat_a").thing_classes == ["z"]
    with pytest.raises(TypeError, match="function"):
        DatasetCatalog.register("cat_b", [1, 2])  # type: ignore[arg-type]


def test_unknown_names_list_their_neighbours() -> None:
    with pytest.raises(KeyError, match="coco_2017_train"):
        DatasetCatalog.get("coco_2017_trian")
    with pytest.raises(KeyError, match="coco_2017_val"):
        MetadataCatalog["coco_2017_vel"]
    with pytest.raises(KeyError):
        MetadataCatalog.remove("cat_a")
    MetadataCatalog.get("cat_a").thing_classes = ["x"]
    with pytest.raises(AttributeError, match="thing_classes"):
        MetadataCatalog.get("cat_a").thing_clases
    with pytest.raises(AttributeError, match=r"'x'.*'y'"):
        MetadataCatalog.get("cat_a").thing_classes = ["y"]


def test_metadata_values_of_every_kind() -> None:
    meta = MetadataCatalog.get("cat_a")
    meta.colors = np.arange(3)
    meta.colors = np.arange(3)
    with pytest.raises(AttributeError):
        meta.colors = np.arange(4)
    assert meta.set(x=1).get("x") == 1 and meta.get("nothing") is None
    meta.thing_classes = ["q"]
    assert meta.class_names == ["q"]
    for made in (pickle.loads(pickle.dumps(meta)), copy.deepcopy(meta)):
        assert isinstance(made, Metadata) and made.as_dict().keys() == meta.as_dict().keys()
    del meta.x
    meta.x = 2
    assert meta.x == 2 and MetadataCatalog.get("cat_a") is meta


def test_deferred_values_are_worked_out_once() -> None:
    calls = []
    MetadataCatalog.defer("cat_a", lambda: calls.append(1) or {"k": 3})  # type: ignore[func-returns-value]
    assert "cat_a" in MetadataCatalog and not calls
    assert MetadataCatalog.get("cat_a").k == 3 and MetadataCatalog.get("cat_a").k == 3
    assert calls == [1]


@pytest.mark.parametrize("name", sorted(FACTS["datasets"]))
def test_builtin_metadata(name: str) -> None:
    found = json.loads(json.dumps(MetadataCatalog.get(name).as_dict()))
    assert found.pop("name") == name
    wanted = {
        k: FACTS["lists"][v["list"]] if isinstance(v, dict) else v for k, v in FACTS["datasets"][name].items()
    }
    roots = {
        "image_root",
        "json_file",
        "panoptic_root",
        "panoptic_json",
        "sem_seg_root",
        "image_dir",
        "gt_dir",
        "dirname",
    }
    assert found == {k: f"datasets/{v}" if k in roots else v for k, v in wanted.items()}
    assert name in DatasetCatalog


def test_tables_under_their_names() -> None:
    assert FACTS["coco_categories"] == builtin_meta.COCO_CATEGORIES
    assert FACTS["cityscapes_categories"] == builtin_meta.CITYSCAPES_CATEGORIES
    assert FACTS["ade20k_150_classes"] == builtin_meta.ADE20K_SEM_SEG_CATEGORIES
    assert list(builtin_meta.COCO_PERSON_KEYPOINT_NAMES) == FACTS["coco_person_keypoint_names"]
    assert FACTS["lvis_v1_categories"] == lvis_v1_categories.LVIS_CATEGORIES
    assert FACTS["lvis_v0.5_categories"] == lvis_v0_5_categories.LVIS_CATEGORIES
    counts = [{"id": c["id"], "image_count": c["image_count"]} for c in FACTS["lvis_v1_categories"]]
    assert counts == lvis_counts.LVIS_CATEGORY_IMAGE_COUNT
    with pytest.raises(KeyError, match="coco_person"):
        builtin_meta._get_builtin_metadata("nothing")


def _tables_read_by_an_import() -> tuple[int, int]:
    before = builtin_meta.read_table.cache_info().currsize
    return before, len(MetadataCatalog.get("lvis_v1_val").thing_classes)


def test_importing_reads_no_table(fresh_process) -> None:
    # This module imports the catalogs and all category modules; a fresh process has done nothing else.
    assert fresh_process(_tables_read_by_an_import) == (0, 1203)


@pytest.fixture
def city(tmp_path: Path) -> Path:
    """Two overlapping cars, a group of riders and a road, in Cityscapes' layout."""
    from PIL import Image

    images, gt = tmp_path / "leftImg8bit/train/ulm", tmp_path / "gtFine/train/ulm"
    images.mkdir(parents=True)
    gt.mkdir(parents=True)
    Image.new("RGB", (40, 20)).save(images / "ulm_0_0_leftImg8bit.png")
    square = lambda x0, y0, x1, y1: [[x0, y0], [x1, y0], [x1, y1], [x0, y1]]  # noqa: E731
    objects = [
        {"label": "road", "polygon": square(0, 0, 40, 20)},
        {"label": "car", "polygon": square(0, 0, 10, 10)},
        {"label": "car", "polygon": square(5, 0, 15, 10)},
        {"label": "ridergroup", "polygon": square(20, 5, 30, 15)},
    ]
    stem = str(gt / "ulm_0_0_gtFine_")
    Path(f"{stem}polygons.json").write_text(json.dumps({"imgHeight": 20, "imgWidth": 40, "objects": objects}))
    ids = np.full((20, 40), 7, np.uint16)
    ids[0:10, 0:10], ids[0:10, 5:15], ids[5:15, 20:30] = 26000, 26001, 25
    Image.fromarray(ids).save(f"{stem}instanceIds.png")
    Image.fromarray(np.zeros((20, 40), np.uint8)).save(f"{stem}labelTrainIds.png")
    return tmp_path


@pytest.mark.parametrize(
    ("from_json", "to_polygons"), [(True, True), (True, False), (False, True), (False, False)]
)
def test_cityscapes_instances(city: Path, from_json: bool, to_polygons: bool) -> None:
    (record,) = load_cityscapes_instances(
        str(city / "leftImg8bit/train"), str(city / "gtFine/train"), from_json, to_polygons
    )
    assert (record["height"], record["width"]) == (20, 40)
    found = sorted((a["category_id"], a["iscrowd"], tuple(a["bbox"])) for a in record["annotations"])
    # The second car lies in front and hides half of the first.
    assert found == [(1, 1, (20, 5, 30, 15)), (2, 0, (0, 0, 5, 10)), (2, 0, (5, 0, 15, 10))]
    assert {type(a["segmentation"]) for a in record["annotations"]} == {list if to_polygons else dict}


def test_cityscapes_semantic(city: Path) -> None:
    (record,) = load_cityscapes_semantic(str(city / "leftImg8bit/train"), str(city / "gtFine/train"))
    assert record["sem_seg_file_name"].endswith("ulm_0_0_gtFine_labelTrainIds.png") and record["width"] == 40
    with pytest.raises(ValueError, match="no images"):
        load_cityscapes_semantic(str(city / "leftImg8bit"), str(city / "gtFine/train"))


def test_lvis(tmp_path: Path) -> None:
    anno = {
        "id": 1,
        "image_id": 4,
        "category_id": 3,
        "bbox": [1, 2, 3, 4],
        "segmentation": [[1, 2, 3, 4, 5, 6]],
        "area": 3,
    }
    data = {
        "images": [
            {"id": 9, "height": 5, "width": 6, "file_name": "COCO_val2014_000000000009.jpg"},
            {
                "id": 4,
                "height": 5,
                "width": 6,
                "coco_url": "http://x/train2017/000000000004.jpg",
                "neg_category_ids": [7],
            },
        ],
        "annotations": [anno],
        "categories": [],
    }
    (tmp_path / "l.json").write_text(json.dumps(data))
    first, second = load_lvis_json(
        str(tmp_path / "l.json"), "coco/", "lvis_v1_val", extra_annotation_keys=["area"]
    )
    assert first["file_name"] == "coco/train2017/000000000004.jpg" and first["neg_category_ids"] == [7]
    assert second["file_name"] == "coco/000000000009.jpg" and second["annotations"] == []
    assert first["annotations"][0]["category_id"] == 2 and first["annotations"][0]["area"] == 3
    data["annotations"].append({**anno, "image_id": 9})
    (tmp_path / "l.json").write_text(json.dumps(data))
    with pytest.raises(ValueError, match="more than once"):
        load_lvis_json(str(tmp_path / "l.json"), "coco/")


def test_documents_that_texts_refer_to_exist() -> None:
    root = Path(detectron2.__file__).parent
    for file in (root / "data").rglob("*.py"):
        for name in re.findall(r"docs/[\w/-]+\.md", file.read_text()):
            assert (root.parent / name).is_file(), f"{file} refers to {name}"
