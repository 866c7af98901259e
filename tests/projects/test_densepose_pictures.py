"""DensePose: visualizers and what prepares detections for them."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from detectron2.config import CfgNode
from detectron2.projects.densepose.data.meshes.catalog import MeshCatalog
from detectron2.projects.densepose.structures import DensePoseDataRelative
from detectron2.projects.densepose.utils.dbhelper import AllEntrySelector, EntrySelector
from detectron2.projects.densepose.utils.logger import verbosity_to_level
from detectron2.projects.densepose.vis import (
    base,
    bounding_box,
    densepose_data_points,
    densepose_outputs_iuv,
    densepose_outputs_vertex,
    densepose_results,
    densepose_results_textures,
    extractor,
    vertex_colors,
)
from detectron2.projects.densepose.vis.drawing import clip_to_image
from detectron2.structures import Boxes, Instances
from detectron2.utils.file_io.safe_pickle import UnsafeCheckpointError

sys.path.insert(0, str(Path(__file__).parent))
from densepose_data import annotation, chart_keys, config, exact_prediction
from densepose_samples import embedding_output, make_mesh

pytest.importorskip("cv2")
SIZE = (60, 80)


@pytest.fixture
def image() -> Any:
    return np.random.default_rng(0).integers(60, 200, (*SIZE, 3), dtype=np.uint8)


@pytest.fixture
def people() -> Instances:
    boxes = ([10.0, 8.0, 40.0, 40.0], [50.0, 30.0, 44.0, 40.0])  # the second reaches beyond the image
    return exact_prediction([annotation(i, 1, b, **chart_keys(i)) for i, b in enumerate(boxes)], SIZE)


def body(people: Instances) -> Any:
    """Pixels that a visualizer of charts may change."""
    mask = np.zeros(SIZE, dtype=bool)
    results, boxes = extractor.DensePoseResultExtractor()(people)
    assert results is not None and boxes is not None
    for result, box in zip(results, boxes.tolist()):
        place, part = clip_to_image(mask, box)
        mask[place] |= result.labels.numpy()[part] > 0
    return mask


# ------------------------------------------------------------------ plain things
def test_parts_of_a_box_in_an_image() -> None:
    image = np.arange(60 * 80).reshape(60, 80)
    whole = np.full((200, 200), -1)
    whole[70:130, 70:150] = image
    rng = np.random.default_rng(0)
    for _ in range(50):
        x, y, w, h = (int(v) for v in (*rng.integers(-60, 100, 2), *rng.integers(0, 50, 2)))
        place, part = clip_to_image(image, (x, y, w, h))
        window = whole[max(70 + y, 0) : 70 + y + h, max(70 + x, 0) : 70 + x + w]
        assert sorted(image[place].reshape(-1)) == sorted(window[window >= 0])
        assert image[place].shape == np.zeros((h, w))[part].shape


def test_matrices_are_drawn_where_the_mask_is(image: Any) -> None:
    mask = np.zeros((10, 10), np.uint8)
    mask[:, :5] = 1
    drawn = base.MatrixVisualizer(alpha=1.0).visualize(
        image.copy(), mask, np.full((10, 10), 90.0), (70, -5, 20, 20)
    )
    changed = (drawn != image).any(2)
    assert changed[:15, 70:80].all() and changed.sum() == 150
    black = base.MatrixVisualizer(inplace=False).visualize(image, mask, np.zeros((10, 10)), (0, 0, 10, 10))
    assert not black[20:].any() and black[:10, :5].any()
    assert base.MatrixVisualizer().visualize(image, mask, mask, (0, 0, 0, 9)) is image
    with pytest.raises(ValueError, match="same shape"):
        base.MatrixVisualizer().visualize(image, mask, np.zeros((3, 3)), (0, 0, 9, 9))


def test_points_may_lie_between_pixels(image: Any) -> None:
    drawn = base.PointsVisualizer(r=1).visualize(image.copy(), [(20.4, 30.6)], colors_bgr=[(0, 0, 255)])
    assert drawn[31, 20].tolist() == [0, 0, 255]


def test_text_is_legible_on_its_ground(image: Any) -> None:
    writer = base.TextVisualizer(
        fill_color_transparency=0.0, frame_color_transparency=0.0, frame_color_bgr=(0, 0, 0)
    )
    width, height = writer.get_text_size_wh("0.5")
    drawn = writer.visualize(image.copy(), "0.5", (10, 10))
    assert (drawn[9, 9 : 9 + width] == 0).all()
    inside = drawn[10 : 10 + height, 10 : 10 + width]
    assert (inside == 255).any() and (inside != 255).any()


def test_boxes_and_scores(image: Any, people: Instances) -> None:
    boxes = extractor.extract_boxes_xywh_from_instances(people)
    drawn = bounding_box.ScoredBoundingBoxVisualizer().visualize(image.copy(), (boxes, people.scores))
    assert drawn[8, 30].tolist() == drawn[40, 10].tolist() == [18, 127, 15]
    with pytest.raises(ValueError, match="one score per box"):
        bounding_box.ScoredBoundingBoxVisualizer().visualize(image, (boxes, people.scores[:1]))
    nothing = bounding_box.ScoredBoundingBoxVisualizer().visualize(image.copy(), (None, None))
    assert (nothing == image).all()


# ------------------------------------------------------------------ annotations
POINTS = ["", "I", "U", "V"]


@pytest.mark.parametrize("kind", POINTS)
def test_annotated_points_are_drawn(kind: str, image: Any) -> None:
    """All of them crash in Detectron2, which hands OpenCV centres between pixels."""
    data = DensePoseDataRelative(chart_keys(0))
    visualizer = getattr(densepose_data_points, f"DensePoseDataPoints{kind}Visualizer")()
    drawn = visualizer.visualize(image.copy(), ([[10.5, 8.5, 40, 40]], [data]))
    assert (drawn != image).any(2)[8:50, 10:52].any()
    for x, y in zip(data.x.tolist(), data.y.tolist()):
        at = round(y * 40 / 255 + 8.5), round(x * 40 / 255 + 10.5)
        assert (drawn[at] != image[at]).any()
    assert (visualizer.visualize(image.copy(), None) == image).all()


def test_annotated_parts_are_drawn(image: Any) -> None:
    data = DensePoseDataRelative(chart_keys(0))
    visualizer = densepose_data_points.DensePoseDataCoarseSegmentationVisualizer(alpha=1.0)
    drawn = visualizer.visualize(image.copy(), ([[10, 8, 40, 40]], [data]))
    changed = (drawn != image).any(2)
    assert changed[20:40, 20:43].all() and not changed[:12].any()


# ------------------------------------------------------------------ charts
RESULTS = ["FineSegmentation", "U", "V"]


@pytest.mark.parametrize("kind", RESULTS)
def test_charts_are_drawn_on_bodies(kind: str, image: Any, people: Instances) -> None:
    visualizer = getattr(densepose_results, f"DensePoseResults{kind}Visualizer")(alpha=1.0)
    make = extractor.create_extractor(visualizer)
    assert make is not None
    drawn = visualizer.visualize(image.copy(), make(people))
    changed = (drawn != image).any(2)
    assert not changed[~body(people)].any() and changed[body(people)].mean() > 0.98
    black = getattr(densepose_results, f"DensePoseResults{kind}Visualizer")(inplace=False)
    before = image.copy()
    drawn = black.visualize(image, make(people))
    assert not drawn[~body(people)].any() and drawn.any() and (image == before).all()
    assert (visualizer.visualize(image.copy(), (None, None)) == image).all()


@pytest.mark.parametrize("kind", ["I", "U", "V"])
def test_outputs_are_drawn_like_charts(kind: str, image: Any, people: Instances) -> None:
    boxes = extractor.extract_boxes_xywh_from_instances(people)
    visualizer = densepose_outputs_iuv.DensePoseOutputsVisualizer(to_visualize=kind, alpha=1.0)
    changed = (visualizer.visualize(image.copy(), (people.pred_densepose, boxes)) != image).any(2)
    assert (changed != body(people)).mean() < 0.06  # the outline is resampled in another way
    with pytest.raises(ValueError, match="to_visualize"):
        densepose_outputs_iuv.DensePoseOutputsVisualizer()


def test_lines_of_equal_values_with_matplotlib(image: Any, people: Instances) -> None:
    pytest.importorskip("matplotlib")
    visualizer = densepose_results.DensePoseResultsMplContourVisualizer(levels=5, linewidths=1)
    drawn = visualizer.visualize(image, extractor.DensePoseResultExtractor()(people))
    assert drawn.shape == image.shape and drawn.dtype == np.uint8
    changed = np.abs(drawn.astype(int) - image).max(2) > 8
    assert 0.02 < changed.mean() < 0.6
    assert not changed[:6].any()  # above the boxes the image is as it was, pixel by pixel


def test_lines_of_equal_values_without_matplotlib(image: Any) -> None:
    visualizer = densepose_results.DensePoseResultsCustomContourVisualizer(levels=4)
    iuv = np.zeros((3, 20, 20), np.uint8)
    iuv[0, :, :10], iuv[0, :, 10:] = 1, 2
    iuv[1] = np.linspace(0, 255, 20).astype(np.uint8)
    drawn = image.copy()
    visualizer.visualize_iuv_arr(drawn, iuv, np.array([30.0, 10.0, 20.0, 20.0]))
    columns = np.flatnonzero((drawn != image).any(2)[10:30].all(0)) - 30
    steps = iuv[1, 0].astype(int) * 4 // 256
    # Where the step changes, except between the two charts.
    assert columns.tolist() == [c for c in range(19) if steps[c] != steps[c + 1] and c != 9]


def test_textures(image: Any, people: Instances, tmp_path: Path) -> None:
    atlas = np.zeros((60, 40, 4), np.uint8)
    for chart in range(24):
        row, column = chart % 6, chart // 6
        atlas[10 * row : 10 * row + 10, 10 * column : 10 * column + 10] = (
            chart + 1,
            2 * chart,
            3 * chart,
            255,
        )
    Image.fromarray(atlas).save(tmp_path / "atlas.png")
    read = densepose_results_textures.get_texture_atlas(str(tmp_path / "atlas.png"))
    assert read is not None and (read == atlas[..., [2, 1, 0, 3]]).all()
    visualizer = densepose_results_textures.DensePoseResultsVisualizerWithTexture(texture_atlas=atlas)
    results, boxes = extractor.DensePoseResultExtractor()(people[:1])
    before = image.copy()
    drawn = visualizer.visualize(image, (results, boxes))
    assert (image == before).all() and results is not None
    charts = results[0].labels.numpy()
    place, part = clip_to_image(drawn, boxes[0])
    shown = drawn[place][..., 0]
    assert (shown[charts[part] > 0] == charts[part][charts[part] > 0]).all()
    with pytest.raises(ValueError, match="6 x 4"):
        densepose_results_textures.DensePoseResultsVisualizerWithTexture(texture_atlas=atlas[:, :30])
    assert densepose_results_textures.get_texture_atlas(None) is None


# ------------------------------------------------------------------ surface embeddings
@pytest.fixture
def cse(tmp_path: Path) -> Any:
    make_mesh(tmp_path, "dp_pic")
    cfg = config()
    cfg.DATASETS.CLASS_TO_MESH_NAME_MAPPING = CfgNode({"0": "dp_pic"})
    cfg.MODEL.ROI_DENSEPOSE_HEAD.CSE.EMBED_SIZE = 6
    spec = {
        "TYPE": "vertex_feature",
        "NUM_VERTICES": 10,
        "FEATURE_DIM": 4,
        "FEATURES_TRAINABLE": False,
        "IS_TRAINABLE": True,
        "INIT_FILE": "",
    }
    cfg.MODEL.ROI_DENSEPOSE_HEAD.CSE.EMBEDDERS = CfgNode({"dp_pic": spec})
    yield cfg
    MeshCatalog.pop("dp_pic")
    vertex_colors.get_xyz_vertex_embedding.cache_clear()


def test_surface_embeddings_are_drawn(cse: Any, image: Any) -> None:
    found = Instances(SIZE, pred_boxes=Boxes(torch.tensor([[10.0, 8, 50, 48], [60, 30, 99, 70]])))
    found.pred_densepose = embedding_output(3)
    found.pred_classes = torch.zeros(2, dtype=torch.int64)
    for visualizer in (
        densepose_outputs_vertex.DensePoseOutputsVertexVisualizer(cse, device="cuda"),
        densepose_outputs_vertex.DensePoseOutputsTextureVisualizer(
            cse, {"dp_pic": np.full((4, 4, 3), 7, np.uint8)}
        ),
    ):
        make = extractor.create_extractor(visualizer)
        assert make is not None
        changed = (visualizer.visualize(image.copy(), make(found)) != image).any(2)
        assert changed[8:48, 10:50].mean() > 0.2 and not changed[:, 50:60].any()
        assert (visualizer.visualize(image.copy(), (None, None, None)) == image).all()
    with pytest.raises(ValueError, match="1 boxes"):
        visualizer.visualize(image, (found.pred_densepose, torch.zeros(1, 4), None))
    with pytest.raises(TypeError, match="surface embeddings"):
        visualizer.visualize(image, (3, torch.zeros(1, 4), None))
    atlases = densepose_outputs_vertex.get_texture_atlases(json.dumps({"a": None}))
    assert atlases == {"a": None} and densepose_outputs_vertex.get_texture_atlases(None) is None


def test_arrays_of_arrays_are_read_without_running_code(tmp_path: Path) -> None:
    both = np.empty(2, dtype=object)
    both[0], both[1] = np.random.default_rng(0).normal(size=(5, 3)), np.arange(3)
    np.save(tmp_path / "a.npy", both, allow_pickle=True)
    read = vertex_colors.read_object_array(str(tmp_path / "a.npy"))
    assert (read[0] == both[0]).all() and (read[1] == both[1]).all()

    class Evil:
        def __reduce__(self) -> Any:
            return print, ("code ran",)

    both[1] = Evil()
    np.save(tmp_path / "b.npy", both, allow_pickle=True)
    with pytest.raises(UnsafeCheckpointError):
        vertex_colors.read_object_array(str(tmp_path / "b.npy"))


# ------------------------------------------------------------------ extractors
def test_selections_are_combined(people: Instances) -> None:
    scored = extractor.ScoredBoundingBoxExtractor()
    boxes, scores = extractor.ScoreThresholdedExtractor(scored, 0.7)(people)
    assert scores.tolist() == pytest.approx([0.9]) and boxes.tolist() == [[10, 8, 40, 40]]
    chained = extractor.ScoreThresholdedExtractor(extractor.NmsFilteredExtractor(scored, 0.5), 0.7)
    assert len(chained(people)[0]) == 1
    twice = Instances(
        SIZE, pred_boxes=Boxes(people.pred_boxes.tensor[[0, 0]]), scores=torch.tensor([0.1, 0.8])
    )
    assert extractor.NmsFilteredExtractor(scored, 0.5)(twice)[1].tolist() == pytest.approx([0.8])
    empty = Instances(SIZE)
    assert extractor.DensePoseResultExtractor()(empty) == (None, None)
    assert extractor.DensePoseOutputsExtractor()(empty) == (None, None, None)
    assert extractor.ScoreThresholdedExtractor(scored, 0.5)(empty) is None


def test_several_visualizers(image: Any, people: Instances) -> None:
    compound = base.CompoundVisualizer(
        [bounding_box.BoundingBoxVisualizer(), densepose_results.DensePoseResultsUVisualizer()]
    )
    make = extractor.create_extractor(compound)
    assert make is not None
    assert (compound.visualize(image.copy(), make(people)) != image).any()
    with pytest.raises(ValueError, match="2 visualizers"):
        compound.visualize(image, [None])
    assert extractor.create_extractor(3) is None


# ------------------------------------------------------------------ selectors of records
def test_selectors() -> None:
    entry = {"image_id": 15, "file_name": "images/a-b.jpg", "score": 0.5}
    for spec, expected in {
        "*": True,
        "image_id:int=15": True,
        "image_id:int=10-15": True,
        "image_id:int=16-20": False,
        "image_id=15": True,
        "file_name=images/a-b.jpg": True,
        "file_name=other.jpg": False,
        "score:float=0.4-0.6,image_id:int=15": True,
        "score:float=0.4-0.6,image_id:int=1": False,
        "score:float=-1.5-0.6": True,
        "missing=1": False,
    }.items():
        assert EntrySelector.from_string(spec)(entry) is expected, spec
    assert isinstance(EntrySelector.from_string("*"), AllEntrySelector)
    for bad in ("image_id", "image_id:list=1", "image_id:int=x", ""):
        with pytest.raises(ValueError, match="condition"):
            EntrySelector.from_string(bad)


def test_verbosity() -> None:
    assert [verbosity_to_level(v) for v in (None, 0, 1, 2, 3)] == [30, 30, 20, 10, 10]
