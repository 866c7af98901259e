"""DensePose: images and videos without annotations, samplers, and loaders of a model's own predictions."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog
from detectron2.projects.densepose.config import load_bootstrap_config
from detectron2.projects.densepose.data import (
    CombinedDataLoader,
    ImageListDataset,
    InferenceBasedLoader,
    ScoreBasedFilter,
    build,
    samplers,
)
from detectron2.projects.densepose.data.samplers.choice import choose_smallest, choose_uniformly
from detectron2.projects.densepose.data.transform import ImageResizeTransform
from detectron2.projects.densepose.data.video import (
    RandomKFramesSelector,
    VideoKeyframeDataset,
    list_keyframes,
    read_keyframes,
)
from detectron2.projects.densepose.data.video.video_keyframe_dataset import read_keyframe_helper_data
from detectron2.projects.densepose.structures import decorate_predictor_output_class_with_confidences
from detectron2.structures import Boxes, Instances

sys.path.insert(0, str(Path(__file__).parent))
from densepose_data import annotation, chart_keys, config, exact_prediction


# ------------------------------------------------------------------ images and videos
def test_images_that_cannot_be_read_are_empty(tmp_path: Path) -> None:
    pixels = np.zeros((4, 6, 3), np.uint8)
    pixels[..., 0] = 200  # red
    Image.fromarray(pixels).save(tmp_path / "a.png")
    (tmp_path / "broken.png").write_bytes(b"no image")
    data = ImageListDataset([str(tmp_path / n) for n in ("a.png", "none.png", "broken.png")], "cat")
    assert data[0]["images"].shape == (1, 3, 4, 6) and data[0]["categories"] == ["cat"]
    assert data[0]["images"].amax((0, 2, 3)).tolist() == [0, 0, 200]  # blue first
    for i in (1, 2):
        assert len(data[i]["images"]) == 0 and data[i]["categories"] == []
    with pytest.raises(ValueError, match="one entry per file"):
        ImageListDataset(["a"], ["x", "y"])


def test_resizing_keeps_to_both_limits() -> None:
    resize = ImageResizeTransform(40, 50)
    assert resize(torch.zeros(2, 3, 20, 20, dtype=torch.uint8)).shape == (2, 3, 40, 40)
    assert resize(torch.zeros(1, 3, 20, 50)).shape == (1, 3, 20, 50)


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> str:
    """24 frames in 4 steps of brightness, each of which begins with a key frame."""
    av = pytest.importorskip("av")
    path = str(tmp_path_factory.mktemp("video") / "v.mp4")
    with av.open(path, "w") as container:
        stream = container.add_stream("mpeg4", rate=12)
        stream.width, stream.height, stream.pix_fmt = 32, 16, "yuv420p"
        stream.codec_context.gop_size = 6
        stream.codec_context.max_b_frames = 0
        for i in range(24):
            frame = av.VideoFrame.from_ndarray(np.full((16, 32, 3), 60 * (i // 6), np.uint8), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def test_key_frames_of_a_video(video: str) -> None:
    stamps = list_keyframes(video)
    assert len(stamps) == 4 and stamps == sorted(set(stamps))
    frames = read_keyframes(video, stamps[::-1])
    brightness = [round(float(f.to_ndarray(format="rgb24").mean()) / 60) for f in frames]
    assert brightness == [3, 2, 1, 0]


def test_video_data_set(video: str, tmp_path: Path) -> None:
    data = VideoKeyframeDataset(
        [video, "none.mp4"], ["ape", "cat"], lambda t: t[1:], ImageResizeTransform(8, 99)
    )
    assert data[0]["images"].shape == (3, 3, 8, 16) and data[0]["categories"] == ["ape"] * 3
    assert data[0]["images"].dtype == torch.float32
    assert len(data[1]["images"]) == 0 and data[1]["categories"] == []
    table = tmp_path / "table.csv"
    table.write_text(f'video_id,keyframes\n0,"[{list_keyframes(video)[2]}]"\n')
    data = VideoKeyframeDataset([video], keyframe_helper_fpath=str(table))
    assert round(float(data[0]["images"].mean()) / 60) == 2 and data[0]["categories"] == [None]


def test_what_is_no_video_gives_nothing(tmp_path: Path, video: str) -> None:
    (tmp_path / "text.mp4").write_text("no video")
    assert list_keyframes(str(tmp_path / "text.mp4")) == []
    assert read_keyframes(video, [0, 10**9])[1:] == []
    assert list_keyframes(video, video_stream_idx=3) == []
    (tmp_path / "bad.csv").write_text("a,b\n1,2\n")
    assert read_keyframe_helper_data(str(tmp_path / "bad.csv")) is None


def test_reading_videos_names_the_package_it_needs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "v.mp4").write_bytes(b"")
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(ImportError, match=r"detectron2\[video\]"):
        list_keyframes(str(tmp_path / "v.mp4"))


def test_random_frames_stay_in_order() -> None:
    chosen = RandomKFramesSelector(5)(list(range(100)))
    assert chosen == sorted(set(chosen)) and len(chosen) == 5


# ------------------------------------------------------------------ loaders
def test_ratios_hold_whatever_the_size_of_batches() -> None:
    """Each loader has elements of its own: in Detectron2 they shared one pool."""
    loader = CombinedDataLoader([[["a"]] * 9000, [["x"] * 10] * 900], batch_size=4, ratios=[3, 1])
    counts = Counter(e for batch, _ in zip(loader, range(1000)) for e in batch)
    assert 0.72 < counts["a"] / counts.total() < 0.78


def test_no_element_is_lost_or_repeated() -> None:
    sources = [[[("a", i), ("a", i + 1)] for i in range(0, 400, 2)], [[("x", i)] for i in range(400)]]
    drawn: dict[str, list[int]] = {"a": [], "x": []}
    for batch in CombinedDataLoader(sources, batch_size=3, ratios=[1, 1]):
        assert len(batch) == 3
        for name, number in batch:
            drawn[name].append(number)
    assert max(len(v) for v in drawn.values()) >= 398
    assert all(v == list(range(len(v))) for v in drawn.values())
    with pytest.raises(ValueError, match="one entry per loader"):
        CombinedDataLoader([[]], 2, [1, 2])


class Detector(nn.Module):
    device = torch.device("cpu")

    def forward(self, batch: list[dict[str, Any]]) -> list[dict[str, Any]]:
        found = []
        for item in batch:
            n = int(item["image"].max())
            found.append(
                {
                    "instances": Instances(
                        (8, 8), scores=torch.linspace(1, 0, n), pred_boxes=Boxes(torch.zeros(n, 4))
                    )
                }
            )
        return found


def test_predictions_of_a_model_become_elements() -> None:
    data = [
        [{"images": torch.full((3, 3, 2, 2), 4.0), "categories": ["ape", "cat", "ape"]}],
        [{"images": torch.zeros(0, 3, 1, 1), "categories": []}],
    ]
    loader = InferenceBasedLoader(
        Detector().train(),
        data,
        data_filter=ScoreBasedFilter(0.5),
        shuffle=False,
        batch_size=2,
        category_to_class_mapping={"cat": 5},
    )
    assert not loader.model.training
    batches = list(loader)
    assert [len(b) for b in batches] == [2, 1]
    elements = [e for b in batches for e in b]
    assert all(e["image"].shape == (3, 2, 2) for e in elements)
    assert [e["instances"].dataset_classes.tolist() for e in elements] == [[0, 0], [5, 5], [0, 0]]
    assert all(float(e["instances"].scores.min()) >= 0.5 for e in elements)


# ------------------------------------------------------------------ samplers
def test_choices_are_distinct_and_from_the_smallest() -> None:
    assert sorted(choose_uniformly(9, 9).tolist()) == list(range(9))
    values = torch.randn(50)
    for kind, number in (
        ({"multiplier": 2.0, "proportion": None}, 20),
        ({"multiplier": None, "proportion": 0.5}, 25),
    ):
        best = set(values.argsort()[:number].tolist())
        for _ in range(20):
            chosen = choose_smallest(values, 10, **kind).tolist()  # type: ignore[arg-type]
            assert len(set(chosen)) == 10 and set(chosen) <= best
    exact = choose_smallest(values, 10, None, None)
    assert set(exact.tolist()) == set(values.argsort()[:10].tolist())


def predictions() -> Instances:
    boxes = ([10, 8, 40, 32], [30, 20, 40, 30])
    return exact_prediction(
        [annotation(i, 1, list(b), **chart_keys(i)) for i, b in enumerate(boxes)], (60, 80)
    )


def test_sampled_points_say_what_was_predicted() -> None:
    found = predictions()
    for data, index in zip(samplers.DensePoseUniformSampler(count_per_class=3)(found), range(2)):
        keys = chart_keys(index)
        assert data is not None
        assert max(Counter(data.i.tolist()).values()) <= 3
        assert set(data.i.tolist()) <= set(keys["dp_I"])
        for x, y, chart in zip(data.x, data.y, data.i):
            assert 32 <= x <= 224 and 32 <= y <= 224  # within the predicted body, to a pixel
            nearest = np.hypot(np.array(keys["dp_x"]) - float(x), np.array(keys["dp_y"]) - float(y))
            close = np.array(keys["dp_I"])[nearest < nearest.min() + 12]
            assert float(chart) in close
        assert data.segm.shape == (256, 256) and set(data.segm.unique().tolist()) > {0}


def test_confidence_based_points() -> None:
    found = predictions()
    output = found.pred_densepose
    decorated = decorate_predictor_output_class_with_confidences(type(output))
    sigma = torch.arange(64.0).expand(2, 25, 64, 64)  # most certain on the left
    maps = {k: getattr(output, k) for k in ("coarse_segm", "fine_segm", "u", "v")}
    found.pred_densepose = decorated(**maps, sigma_2=sigma)
    uniform = next(iter(samplers.DensePoseUniformSampler(10**6)(found)))
    certain = next(iter(samplers.DensePoseConfidenceBasedSampler("sigma_2", 2)(found)))
    for chart in certain.i.unique():
        leftmost = uniform.x[uniform.i == chart].sort()[0][:2]
        assert certain.x[certain.i == chart].max() <= leftmost.max() + 1e-3
    with pytest.raises(ValueError, match="mutually exclusive"):
        samplers.DensePoseConfidenceBasedSampler("sigma_2", 2, 2.0, 0.5)
    with pytest.raises(ValueError, match="does not predict 'sigma_2'"):
        samplers.DensePoseConfidenceBasedSampler("sigma_2", 2)(predictions())


def test_predictions_become_ground_truth() -> None:
    sampler = build.build_data_sampler(
        config(), CfgNode({"TYPE": "densepose_uniform", "COUNT_PER_CLASS": 2}), None
    )
    given = {"instances": predictions(), "image": torch.zeros(3, 60, 80)}
    (made,) = sampler([given])
    assert set(made["instances"].get_fields()) == {"gt_boxes", "gt_classes", "gt_densepose", "gt_masks"}
    assert set(given["instances"].get_fields()) == {"pred_boxes", "pred_classes", "pred_densepose", "scores"}
    assert made["instances"].gt_masks.tensor.flatten(1).sum(1).min() > 0
    (empty,) = sampler([{"instances": predictions()[:0]}])
    assert len(empty["instances"]) == 0 and len(empty["instances"].gt_densepose) == 0
    with pytest.raises(KeyError, match="no rule"):
        sampler.remove_sampler("nothing")


# ------------------------------------------------------------------ configs
def bootstrap_cfg(**loader: Any) -> CfgNode:
    cfg = config()
    image_loader = {
        "TYPE": "video_keyframe",
        "NUM_WORKERS": 0,
        "SELECT": {"STRATEGY": "first_k", "NUM_IMAGES": 2},
        "TRANSFORM": {"TYPE": "resize", "MIN_SIZE": 16, "MAX_SIZE": 40},
        "CATEGORY_TO_CLASS_MAPPING": {"chimpanzee": 3},
        **loader,
    }
    cfg.BOOTSTRAP_DATASETS = [
        {
            "DATASET": "dp_videos",
            "RATIO": 0.5,
            "IMAGE_LOADER": image_loader,
            "DATA_SAMPLER": {"TYPE": "densepose_uniform", "COUNT_PER_CLASS": 2},
            "FILTER": {"TYPE": "detection_score", "MIN_VALUE": 0.6},
        }
    ]
    load_bootstrap_config(cfg)
    return cfg


@pytest.fixture
def videos(tmp_path: Path, video: str) -> None:
    (tmp_path / "list.txt").write_text(f"{video}\n\n{video}\n")
    kind = MetadataCatalog.get("chimpnsee").dataset_type
    MetadataCatalog.pop("dp_videos", None)
    MetadataCatalog.get("dp_videos").set(
        dataset_type=kind,
        video_list_fpath=str(tmp_path / "list.txt"),
        video_base_path=str(tmp_path),
        category="chimpanzee",
    )


class DensePoseDetector(nn.Module):
    device = torch.device("cpu")

    def forward(self, batch: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [{"instances": predictions()} for _ in batch]


def test_loaders_of_a_config(videos: None) -> None:
    cfg = bootstrap_cfg()
    assert build.has_inference_based_loaders(cfg) and not build.has_inference_based_loaders(config())
    (loader,), ratios = build.build_inference_based_loaders(cfg, DensePoseDetector())
    assert ratios == [0.5]
    batch = next(iter(loader))
    assert len(batch) == 2 and batch[0]["image"].shape == (3, 16, 32)
    assert len(batch[0]["instances"].gt_densepose) == 1  # the other one scores less than 0.6
    assert MetadataCatalog.get("dp_videos").category_to_class_mapping == {"chimpanzee": 3}
    cfg.SOLVER.IMS_PER_BATCH = 3
    mixed = build.build_combined_loader(cfg, [[["annotated"]] * 99, loader], [1.0, *ratios])
    assert len(next(iter(mixed))) == 3


def test_unknown_parts_of_a_config_raise(videos: None) -> None:
    with pytest.raises(ValueError, match="images"):
        build.build_inference_based_loaders(bootstrap_cfg(TYPE="images"), DensePoseDetector())
    with pytest.raises(ValueError, match="Did you mean"):
        build.build_data_sampler(config(), CfgNode({"TYPE": "densepose_unifrom"}), None)
    with pytest.raises(ValueError, match="EMBEDDERS"):
        build.build_data_sampler(config(), CfgNode({"TYPE": "densepose_cse_uniform"}), None)
