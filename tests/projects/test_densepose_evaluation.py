"""DensePose: tensor storage, geodesic point similarity, COCO's figures, alignment of meshes."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pycocotools.mask as mask_util
import pytest
import torch

from detectron2.data import MetadataCatalog
from detectron2.data.catalog import DatasetCatalog
from detectron2.projects.densepose.data.meshes.catalog import MeshCatalog
from detectron2.projects.densepose.evaluation import densepose_coco_evaluation as dce
from detectron2.projects.densepose.evaluation import mesh_alignment_evaluator, point_similarity
from detectron2.projects.densepose.evaluation.d2_evaluator_adapter import Detectron2COCOEvaluatorAdapter
from detectron2.projects.densepose.evaluation.evaluator import (
    DensePoseCOCOEvaluator,
    build_densepose_evaluator_storage,
    prediction_to_dict,
)
from detectron2.projects.densepose.evaluation.masks import (
    ground_truth_rle,
    ignored_region,
    prediction_rle,
    share_in_region,
)
from detectron2.projects.densepose.evaluation.matching import match_detections
from detectron2.projects.densepose.evaluation.predictions import sample_at_pixels
from detectron2.projects.densepose.evaluation.smpl_geodesics import mean_distances, similarity
from detectron2.projects.densepose.evaluation.tensor_storage import (
    SingleProcessFileTensorStorage,
    SingleProcessRamTensorStorage,
    SizeData,
    own_storage,
    storage_gather,
)
from detectron2.projects.densepose.structures import DensePoseEmbeddingPredictorOutput
from detectron2.structures import Boxes, Instances

sys.path.insert(0, str(Path(__file__).parent))
from densepose_data import annotation, chart_keys, config, exact_prediction, register, small_surface
from densepose_samples import make_mesh

SCHEMA = {"b": SizeData("float32", (2, 3)), "a": SizeData("uint8", (4,))}


# ------------------------------------------------------------------ storage
@pytest.mark.parametrize("kind", ["ram", "file"])
def test_records_come_back(kind: str, tmp_path: Path) -> None:
    records = [{"a": torch.arange(4, dtype=torch.uint8) + i, "b": torch.randn(2, 3)} for i in range(3)]
    storage: Any = SingleProcessRamTensorStorage(SCHEMA, io.BytesIO())
    if kind == "file":
        storage = SingleProcessFileTensorStorage(SCHEMA, str(tmp_path / "s.bin"), "wb")
    assert [storage.put(r) for r in records] == [0, 1, 2]
    for reader in (storage_gather(storage), own_storage(storage)):
        assert reader is not None
        for i in (2, 0, 1):
            found = reader.get(0, i)
            assert torch.equal(found["a"], records[i]["a"]) and torch.equal(found["b"], records[i]["b"])
        for bad in (3, -1):
            with pytest.raises(ValueError, match="no record"):
                reader.get(0, bad)
    assert storage.put(records[0]) == 3  # reading does not disturb writing


def test_records_of_another_form_raise() -> None:
    storage = SingleProcessRamTensorStorage(SCHEMA, io.BytesIO())
    good = {"a": torch.zeros(4, dtype=torch.uint8), "b": torch.zeros(2, 3)}
    for bad in (
        {"a": good["a"]},
        {**good, "b": torch.zeros(3, 2)},
        {**good, "b": torch.zeros(2, 3).double()},
    ):
        with pytest.raises(ValueError, match=r"'a'|'b'"):
            storage.put(bad)
    with pytest.raises(ValueError, match="binary"):
        SingleProcessFileTensorStorage(SCHEMA, "x", "w")


@pytest.mark.parametrize(
    ("kind", "names"),
    [("iou", {"coarse_segm", "fine_segm", "u", "v"}), ("cse", {"coarse_segm", "embedding"})],
)
def test_storage_of_a_config(kind: str, names: set[str], tmp_path: Path) -> None:
    """The default type, "iou", means charts; Detectron2 rejects it."""
    cfg = config()
    assert cfg.DENSEPOSE_EVALUATION.TYPE == "iou" and build_densepose_evaluator_storage(cfg, "") is None
    cfg.DENSEPOSE_EVALUATION.TYPE, cfg.DENSEPOSE_EVALUATION.STORAGE = kind, "file"
    storage = build_densepose_evaluator_storage(cfg, str(tmp_path / "new"))
    assert storage is not None and set(storage.data_schema) == names
    cfg.DENSEPOSE_EVALUATION.STORAGE = "disk"
    with pytest.raises(ValueError, match="disk"):
        build_densepose_evaluator_storage(cfg, "")


# ------------------------------------------------------------------ the surface
def test_distances_are_those_of_the_matrix() -> None:
    surface = small_surface(2)
    number = len(surface.chart_ids)
    matrix = np.zeros((number, number))
    matrix[np.tril_indices(number, -1)] = surface.distances
    matrix += matrix.T
    first, second = (a.reshape(-1) for a in np.meshgrid(np.arange(number), np.arange(number)))
    np.testing.assert_allclose(surface.distances_between(first + 1, second + 1), matrix[first, second])
    assert np.isinf(surface.distances_between([0, 3, 0], [3, 0, 0])).all()


def test_closest_vertices_are_of_the_same_chart() -> None:
    surface = small_surface()
    rng = np.random.default_rng(0)
    charts, u, v = rng.integers(0, 25, 50), rng.uniform(size=50), rng.uniform(size=50)
    found = surface.closest_vertices(charts, u, v)
    for chart, a, b, vertex in zip(charts, u, v, found):
        if chart == 0:
            assert vertex == -1
            continue
        gaps = np.where(surface.chart_ids == chart, np.hypot(*(surface.uv - [a, b]).T), np.inf)
        assert vertex == gaps.argmin() + 1
    assert (surface.to_coarse(found)[charts == 0] == 0).all()


def test_similarity() -> None:
    assert similarity(np.array([0.0, np.inf]), 0.3).tolist() == [1, 0]
    assert 0.49 < similarity(torch.tensor(0.3), 0.255).item() < 0.51  # 30 cm count one half
    assert mean_distances([0, 1, 2, 3, 24]).tolist() == [0, 0.351, 0.351, 0.107, 0.15]


def test_reading_at_pixels_is_reading_what_was_resampled() -> None:
    maps = torch.randn(3, 5, 7)
    box = (0, 0, 19, 23)
    whole = torch.nn.functional.interpolate(maps[None], (23, 19), mode="bilinear", align_corners=False)[0]
    rows, columns = torch.randint(23, (40,)), torch.randint(19, (40,))
    torch.testing.assert_close(sample_at_pixels(maps, rows, columns, box), whole[:, rows, columns])


# ------------------------------------------------------------------ masks
def test_masks_are_cut_at_the_border() -> None:
    found = mask_util.decode(prediction_rle(np.ones((10, 10), bool), (-4.5, 55.2, 10.9, 10.1), (60, 80)))
    assert found.sum() == 6 * 5 and found[55:60, 0:6].all()
    assert mask_util.area(prediction_rle(np.ones((3, 3), bool), (200, 200, 3, 3), (60, 80))) == 0


def test_ground_truth_masks() -> None:
    parts = annotation(1, 1, [10, 8, 40, 40], **chart_keys(0))
    assert 0.85 < mask_util.area(ground_truth_rle(parts, (60, 80))) / (40 * 40 * (176 / 256) ** 2) < 1.1
    box = annotation(1, 1, [10, 8, 40, 30])
    assert mask_util.area(ground_truth_rle(box, (60, 80))) == 1200
    rle = {"size": [60, 80], "counts": [60, 120, 4620]}
    assert mask_util.area(ground_truth_rle({**box, "segmentation": rle}, (60, 80))) == 120
    assert mask_util.area(ground_truth_rle({**box, "segmentation": []}, (60, 80))) == 0


def test_regions_without_annotations() -> None:
    assert ignored_region({"height": 9, "width": 9}) is None
    square = {
        "height": 20,
        "width": 30,
        "ignore_regions_x": [[10, 20, 20, 10]],
        "ignore_regions_y": [[0, 0, 10, 10]],
    }
    region = ignored_region(square)
    assert region is not None and region.sum() == 100
    assert share_in_region(None, (5, 0, 10, 10), region) == 0.5
    assert share_in_region(None, (5, 0, 0, 10), region) is None
    left = np.zeros((10, 10), bool)
    left[:, :5] = True
    assert share_in_region(left, (5, 0, 10, 10), region) == 0
    assert share_in_region(left, (10, 0, 10, 10), region) == 1


# ------------------------------------------------------------------ matching
def slow_match(similar: np.ndarray, ignored: np.ndarray, threshold: float) -> list[int]:
    """COCO's rule: each detection takes the best free ground truth, one that is judged before one that is not."""
    taken: set[int] = set()
    found = []
    for row in similar:
        best = -1
        for group in (False, True):
            for g, value in enumerate(row):
                free = g not in taken and bool(ignored[g]) == group and value >= threshold
                if best < 0 or bool(ignored[best]) == group:
                    if free and (best < 0 or value >= row[best]):
                        best = g
        if best >= 0:
            taken.add(best)
        found.append(best)
    return found


def test_matches_equal_those_of_the_plain_rule() -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        similar = rng.integers(0, 11, (5, 4)) / 10
        ignored = rng.random(4) < 0.3
        partner, unjudged = match_detections(
            similar, np.zeros((5, 4)), ignored, np.zeros(4, bool), np.array([0.3, 0.6])
        )
        for t, threshold in enumerate((0.3, 0.6)):
            expected = slow_match(similar, ignored, threshold)
            assert partner[t].tolist() == expected
            assert unjudged[t].tolist() == [p >= 0 and bool(ignored[p]) for p in expected]


def test_a_detection_of_an_object_without_annotation_does_not_count() -> None:
    partner, unjudged = match_detections(
        np.zeros((2, 2)),
        np.array([[0.9, 0.0], [0.0, 0.9]]),
        np.array([True, False]),
        np.zeros(2, bool),
        np.array([0.5]),
    )
    assert partner.tolist() == [[0, -1]] and unjudged.tolist() == [[True, False]]


# ------------------------------------------------------------------ charts
@pytest.fixture
def people(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[str, list[dict[str, Any]]]:
    monkeypatch.setattr(point_similarity, "load_smpl_geodesics", small_surface)
    boxes = ([10.0, 8.0, 40.0, 40.0], [30.0, 16.0, 44.0, 38.0])
    found = [annotation(i + 1, 1, box, **chart_keys(i)) for i, box in enumerate(boxes)]
    register(tmp_path, "dp_eval", found, images=(1,))
    DatasetCatalog.get("dp_eval")
    MetadataCatalog.get("dp_eval").set(thing_dataset_id_to_contiguous_id={1: 0}, thing_classes=["person"])
    return "dp_eval", found


def results_of(evaluator: Any, predictions: Any, image: int = 1) -> Any:
    evaluator.reset()
    evaluator.process([{"image_id": image}], [{"instances": predictions}])
    return evaluator.evaluate()


def test_what_was_annotated_is_right(people: Any, tmp_path: Path) -> None:
    name, annotations = people
    found = exact_prediction(annotations, (60, 80))
    evaluator = DensePoseCOCOEvaluator(name, distributed=False, output_dir=str(tmp_path / "out"))
    results = results_of(evaluator, found)
    assert set(results) == {"densepose_gps", "densepose_gpsm", "densepose_segm"}
    for figures in results.values():
        assert figures["AP50"] == pytest.approx(100) and figures["AR50"] == pytest.approx(100)
    assert results["densepose_gps"]["AP"] > 80
    assert (tmp_path / "out" / "coco_densepose_predictions.pth").exists()
    found.pred_densepose.fine_segm = found.pred_densepose.fine_segm.roll(1, dims=1)  # all charts wrong
    wrong = results_of(evaluator, found)
    assert wrong["densepose_gps"]["AP"] < 30 and wrong["densepose_segm"]["AP50"] == pytest.approx(100)


@pytest.mark.parametrize("place", ["ram", "file"])
def test_storages_give_the_same_figures(people: Any, place: str, tmp_path: Path) -> None:
    name, annotations = people
    found = exact_prediction(annotations, (60, 80))
    plain = results_of(DensePoseCOCOEvaluator(name, distributed=False), found)
    cfg = config()
    cfg.DENSEPOSE_EVALUATION.STORAGE, cfg.MODEL.ROI_DENSEPOSE_HEAD.HEATMAP_SIZE = place, 64
    for distributed in (True, False):
        storage = build_densepose_evaluator_storage(cfg, str(tmp_path))
        stored = results_of(DensePoseCOCOEvaluator(name, distributed=distributed, storage=storage), found)
        assert stored == plain


def test_figures_without_predictions_and_with_low_thresholds(people: Any) -> None:
    name, annotations = people
    evaluator = DensePoseCOCOEvaluator(name, distributed=False, min_iou_threshold=0.2)
    empty = evaluator.evaluate()
    assert empty is not None and set(empty["densepose_gps"].values()) == {-1}
    results = results_of(evaluator, exact_prediction(annotations, (60, 80)))
    assert list(results["densepose_gps"])[:6] == ["AP", "AP20", "AP30", "AP40", "AP50", "AP75"]
    assert list(results["densepose_gps"]) == list(empty["densepose_gps"])
    other = evaluator.evaluate(img_ids=[1])
    assert other == results


def evaluation_of(annotations: list[dict[str, Any]], mode: dce.DensePoseDataMode) -> Any:
    from pycocotools.coco import COCO

    gt = COCO()
    gt.dataset = {
        "images": [{"id": 1, "height": 60, "width": 80}],
        "annotations": annotations,
        "categories": [{"id": 0, "name": "person"}],
    }
    for a in annotations:
        a["category_id"] = 0
    gt.createIndex()
    dt = gt.loadRes(prediction_to_dict(exact_prediction(annotations, (60, 80)), 1, None, {}, False))
    evaluation = dce.DensePoseCocoEval(gt, dt, dpDataMode=mode)
    evaluation.evaluate()
    return evaluation


@pytest.mark.parametrize("mode", list(dce.DensePoseDataMode))
def test_data_modes(people: Any, mode: dce.DensePoseDataMode) -> None:
    """Those with U and V of 0 crash in Detectron2."""
    evaluation = evaluation_of(people[1], mode)
    gps = evaluation.ious[1, 0][0]
    own = np.diag(gps)
    assert np.isfinite(gps).all()
    if mode is dce.DensePoseDataMode.IUV_GT:
        np.testing.assert_allclose(own, 1)
    elif "UV_0" in mode.name:
        surface = small_surface()
        a = people[1][0]
        zero = np.zeros(len(a["dp_I"]))
        one = surface.to_coarse(surface.closest_vertices(a["dp_I"], a["dp_U"], a["dp_V"]))
        other = surface.to_coarse(surface.closest_vertices(a["dp_I"], zero, zero))
        scale = mean_distances(a["dp_I"])
        expected = similarity(surface.distances_between(one, other), scale).mean()
        assert own[0] == pytest.approx(expected, abs=1e-9 if "GT" in mode.name else 0.2)
    else:
        assert (own > 0.8).all()


def test_points_outside_of_the_box_count_as_not_found(people: Any) -> None:
    evaluation = evaluation_of(people[1], dce.DensePoseDataMode.IUV_GT)
    gt = people[1][0]
    x, y, w, h = gt["bbox"]
    inside = np.asarray(gt["dp_x"]) * w / 255 < 20
    half = {"bbox": [x, y, 20.0, h], "densepose": next(iter(evaluation._dts.values()))[0]["densepose"]}
    assert evaluation.similarity_of_pair(half, gt) == pytest.approx(inside.mean(), abs=0.13)
    assert evaluation.similarity_of_pair({**half, "bbox": [200.0, 0.0, 9.0, 9.0]}, gt) == 0


def test_other_kinds_of_evaluation(people: Any) -> None:
    """Keypoints crash in Detectron2."""
    _, annotations = people
    params = dce.Params("keypoints")
    assert params.maxDets == [20] and len(params.kpt_oks_sigmas) == 17
    assert dce.Params("bbox").maxDets == [1, 10, 100] and dce.Params("densepose").areaRngLbl == [
        "all",
        "medium",
        "large",
    ]
    base = evaluation_of(annotations, dce.DensePoseDataMode.IUV_DT)
    points = [1.0, 2.0, 2.0] * 17
    for a in base.cocoGt.anns.values():
        a.update(keypoints=points, num_keypoints=17)
    for a in base.cocoDt.anns.values():
        a.update(keypoints=points)
    for kind in ("bbox", "segm", "keypoints"):
        evaluation = dce.DensePoseCocoEval(base.cocoGt, base.cocoDt, kind)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
        assert evaluation.stats[0] == (0 if kind == "segm" else pytest.approx(1)), (
            kind
        )  # boxes against bodies


def test_annotations_in_regions_that_are_left_out_do_not_count(tmp_path: Path, people: Any) -> None:
    name, annotations = people
    region = {"ignore_regions_x": [[0, 80, 80, 0]], "ignore_regions_y": [[0, 0, 60, 60]]}
    register(tmp_path, name, annotations, images=(1,), **region)
    DatasetCatalog.get(name)
    MetadataCatalog.get(name).set(thing_dataset_id_to_contiguous_id={1: 0}, thing_classes=["person"])
    results = results_of(
        DensePoseCOCOEvaluator(name, distributed=False), exact_prediction(annotations, (60, 80))
    )
    assert results["densepose_gps"]["AP"] == -100


def test_several_classes(tmp_path: Path, people: Any) -> None:
    annotations = people[1]
    annotations[1]["category_id"] = 5
    register(tmp_path, "dp_two", annotations, images=(1,), categories={1: "person", 5: "ape", 9: "cat"})
    DatasetCatalog.get("dp_two")
    metadata = {"thing_dataset_id_to_contiguous_id": {1: 0, 5: 1}, "thing_classes": ["person", "ape"]}
    MetadataCatalog.get("dp_two").set(**metadata)
    found = exact_prediction(annotations, (60, 80))
    found.pred_classes = torch.tensor([0, 1])
    figures = results_of(DensePoseCOCOEvaluator("dp_two", distributed=False), found)["densepose_gps"]
    assert figures["AP-person"] > 70 and figures["AP-ape"] > 70
    boxes = results_of(Detectron2COCOEvaluatorAdapter("dp_two", distributed=False), found)["bbox"]
    assert boxes["AP-person"] == pytest.approx(100) and boxes["AP-ape"] == pytest.approx(100)
    MetadataCatalog.get("dp_two").__dict__.update(
        thing_dataset_id_to_contiguous_id={1: 0, 5: 0}, thing_classes=["person"]
    )
    found.pred_classes = torch.tensor([0, 0])
    boxes = results_of(Detectron2COCOEvaluatorAdapter("dp_two", distributed=False), found)["bbox"]
    assert boxes["AP"] == pytest.approx(100)


# ------------------------------------------------------------------ surface embeddings
class Embedder(torch.nn.Module):
    mesh_names = ("dp_mesh_a", "dp_mesh_b")

    def forward(self, mesh_name: str) -> torch.Tensor:
        return torch.eye(10)


@pytest.fixture
def meshes(tmp_path: Path) -> Any:
    for name in Embedder.mesh_names:
        make_mesh(tmp_path, name)
    yield
    for name in Embedder.mesh_names:
        MeshCatalog.pop(name)


def test_surface_embeddings(tmp_path: Path, meshes: None) -> None:
    """On the CPU, where Detectron2 cannot evaluate them."""
    keys = {k: v for k, v in chart_keys(0).items() if k in ("dp_x", "dp_y", "dp_masks")}
    vertices = np.random.default_rng(1).integers(0, 10, len(keys["dp_x"])).tolist()
    a = annotation(1, 1, [10.0, 8.0, 40.0, 40.0], dp_vertex=vertices, ref_model="dp_mesh_a", **keys)
    register(tmp_path, "dp_cse", [a], images=(1,))
    DatasetCatalog.get("dp_cse")
    MetadataCatalog.get("dp_cse").set(
        thing_dataset_id_to_contiguous_id={1: 0},
        thing_classes=["person"],
        class_to_mesh_name={0: "dp_mesh_a"},
    )
    at = (torch.arange(64) + 0.5) * 4
    gaps = (at[None, :, None] - torch.tensor(a["dp_x"])) ** 2 + (
        at[:, None, None] - torch.tensor(a["dp_y"])
    ) ** 2
    near = torch.tensor(vertices)[gaps.argmin(dim=2)]
    coarse = torch.full((1, 2, 64, 64), -1.0)
    coarse[0, 1, 8:56, 8:56] = 1
    output = DensePoseEmbeddingPredictorOutput(
        embedding=torch.eye(10)[near].permute(2, 0, 1)[None], coarse_segm=coarse
    )
    found = Instances(
        (60, 80), pred_boxes=Boxes(torch.tensor([[10.0, 8, 50, 48]])), scores=torch.tensor([0.9])
    )
    found.pred_classes, found.pred_densepose = torch.tensor([0]), output
    evaluator = DensePoseCOCOEvaluator("dp_cse", distributed=False, evaluator_type="cse", embedder=Embedder())
    assert results_of(evaluator, found)["densepose_gps"]["AP50"] == pytest.approx(100)
    missing = DensePoseCOCOEvaluator("dp_cse", distributed=False, evaluator_type="cse")
    with pytest.raises(ValueError, match="embedder"):
        results_of(missing, found)


def test_alignment_of_meshes(tmp_path: Path, meshes: None, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = {"dp_mesh_a": {"nose": 1, "tail": 4}, "dp_mesh_b": {"tail": 5, "nose": 1}}

    class Files:
        @staticmethod
        def open(path: str, mode: str) -> Any:
            return io.StringIO(json.dumps(keys))

    monkeypatch.setattr(mesh_alignment_evaluator, "PathManager", Files)
    error, gps, per_mesh = mesh_alignment_evaluator.MeshAlignmentEvaluator(Embedder(), None).evaluate()
    # Equal numbers are equal embeddings: noses agree, tails are as far apart as vertices 4 and 5.
    from detectron2.projects.densepose.structures import create_mesh

    geodists = create_mesh("dp_mesh_b", torch.device("cpu")).geodists
    assert geodists is not None
    assert per_mesh["GE"]["dp_mesh_a"] == pytest.approx(float(geodists[4, 5]) / 2)
    assert 0.5 <= gps <= 1 and error == pytest.approx(sum(per_mesh["GE"].values()) / 2)
    alone = mesh_alignment_evaluator.MeshAlignmentEvaluator(Embedder(), ["dp_mesh_a"]).evaluate()
    assert np.isnan(alone[0]) and alone[2] == {"GE": {}, "GPS": {}}
    with pytest.raises(ValueError, match="embedder"):
        DensePoseCOCOEvaluator("any", distributed=False, should_evaluate_mesh_alignment=True)
