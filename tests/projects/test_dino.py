"""DINO and Deformable DETR: configs, weights' names, training steps, old paths."""

from __future__ import annotations

import copy
import functools
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

import detectron2.projects.dino as dino
from detectron2.config import LazyConfig, instantiate
from detectron2.export import export_program
from detectron2.modeling.tensor_inference import TensorInference, outputs_to_instances
from detectron2.structures import Boxes, Instances
from detectron2.utils.registry import locate

sys.path.insert(0, str(Path(__file__).parent))
import modern
from _modern_runs import tiny_detr
from facts import some_slow

CONFIGS = Path(dino.__file__).parent / "configs"
RECORDED = {k: v for k, v in modern.configs("lazy").items() if not k.startswith("eva02/")}
MODELS = [
    "dino/dino-resnet/dino_r50_4scale_12ep.py",
    "deformable_detr/deformable_detr_r50_50ep.py",
    "deformable_detr/deformable_detr_r50_two_stage_50ep.py",
]


@pytest.mark.parametrize("path", some_slow(RECORDED, list(RECORDED)[::5]))
def test_configs_are_those_published(path: str) -> None:
    got = modern.tree(LazyConfig.load(str(CONFIGS / path)))
    got = {k: v for k, v in got.items() if k in RECORDED[path]}
    assert modern.differences(got, RECORDED[path]) == []


@pytest.mark.slow
@pytest.mark.parametrize("path", [p for p in RECORDED if p in modern.state_dicts()])
def test_state_dicts_are_those_published(path: str) -> None:
    with torch.device("meta"):
        model = instantiate(LazyConfig.load(str(CONFIGS / path)).model)
    assert {k: list(v.shape) for k, v in model.state_dict().items()} == modern.state_dicts()[path]


def _small(path: str, queries: int = 10) -> torch.nn.Module:
    """A model of its own, equal to others of the same arguments."""
    return copy.deepcopy(_made(path, queries))


@functools.cache
def _made(path: str, queries: int) -> torch.nn.Module:
    cfg = LazyConfig.load(str(CONFIGS / path)).model
    cfg.num_queries = queries
    cfg.transformer.encoder.update(num_layers=1, feedforward_dim=32)
    cfg.transformer.decoder.update(num_layers=2, feedforward_dim=32)
    stages = cfg.backbone.stages
    cfg.backbone.stages = {**{k: v for k, v in stages.items() if k != "stride_in_1x1"}, "depth": 18}
    for name, channels in (("res3", 128), ("res4", 256), ("res5", 512)):
        cfg.neck.input_shapes[name].channels = channels
    torch.manual_seed(0)
    model: torch.nn.Module = instantiate(cfg)
    return model


def _image(h: int, w: int, boxes: list[list[float]], labels: list[int]) -> dict[str, Any]:
    truth = Instances((h, w))
    truth.gt_boxes = Boxes(torch.tensor(boxes).reshape(-1, 4))
    truth.gt_classes = torch.tensor(labels, dtype=torch.int64)
    image = torch.rand(3, h, w, generator=torch.Generator().manual_seed(h)) * 255
    return {"image": image, "instances": truth, "height": h, "width": w}


@pytest.mark.parametrize("path", MODELS)
@pytest.mark.parametrize("objects", [True, False])
def test_one_step_has_finite_gradients(path: str, objects: bool) -> None:
    model = _small(path).train()
    boxes = [[5.0, 5.0, 40.0, 50.0]] if objects else []
    losses = model([_image(64, 96, boxes, [3] * len(boxes)), _image(80, 64, [], [])])
    sum(losses.values()).backward()
    for name, p in model.named_parameters():
        if p.requires_grad:
            assert p.grad is not None, name
            assert p.grad.isfinite().all(), name


@pytest.mark.parametrize("path", [MODELS[0], MODELS[2]])
def test_a_small_image_has_fewer_queries(path: str) -> None:
    model = _small(path, queries=60)
    losses = model.train()([_image(32, 32, [[5.0, 5.0, 20.0, 30.0]], [3])])  # 16 + 4 + 1 + 1 pixels
    assert all(loss.isfinite() for loss in losses.values())
    (found,) = model.eval()([_image(32, 32, [], [])])
    assert 0 < len(found["instances"])


@pytest.mark.parametrize("path", MODELS)
def test_batched_equals_single(path: str) -> None:
    model = _small(path).eval()
    inputs = [_image(64, 96, [], []), _image(64, 96, [], [])]
    inputs[1]["image"] = inputs[1]["image"].flip(2)
    with torch.no_grad():
        together = model(inputs)
        for item, found in zip(inputs, together):
            alone = model([item])[0]["instances"]
            torch.testing.assert_close(alone.scores, found["instances"].scores, rtol=1e-4, atol=1e-5)


def test_old_paths_find_the_new_classes() -> None:
    assert locate("detrex.modeling.neck.channel_mapper.ChannelMapper") is dino.ChannelMapper
    assert locate("projects.dino.modeling.dino.DINO") is dino.DINO
    made = instantiate(
        {"_target_": "detrex.layers.mlp.MLP", **dict(input_dim=2, hidden_dim=3)}
        | dict(output_dim=4, num_layers=2)
    )
    assert isinstance(made, dino.MLP)


def _whole(path: str) -> TensorInference:
    torch.manual_seed(0)
    model: Any = instantiate(tiny_detr(path).model)
    return TensorInference(model)


@pytest.mark.parametrize("path", MODELS)
def test_tensors_are_the_detections(path: str) -> None:
    whole = _whole(path)
    item = _image(64, 96, [], [])
    with torch.no_grad():
        found = outputs_to_instances(whole(item["image"]), (64, 96))
        (wanted,) = whole.model([item])
    torch.testing.assert_close(found.pred_boxes.tensor, wanted["instances"].pred_boxes.tensor)
    torch.testing.assert_close(found.scores, wanted["instances"].scores)
    assert torch.equal(found.pred_classes, wanted["instances"].pred_classes)


@pytest.mark.slow
@pytest.mark.parametrize("path", MODELS[:2])
def test_whole_model_is_one_graph_and_the_same_in_onnx_runtime(path: str, tmp_path: Path) -> None:
    runtime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    whole = _whole(path)
    graph = export_program(whole.model, _image(160, 192, [], [])["image"], min_size=129, max_size=512)
    with torch.no_grad():
        program = torch.onnx.export(graph, dynamo=True, opset_version=20)
        assert program is not None
        program.save(str(tmp_path / "model.onnx"))
        session = runtime.InferenceSession(str(tmp_path / "model.onnx"), providers=["CPUExecutionProvider"])
        for size in ((160, 192), (210, 170)):
            image = _image(*size, [], [])["image"]
            wanted = whole(image)
            exported = graph.module()(image)
            outputs = session.run(None, {session.get_inputs()[0].name: image.numpy()})
            for found in (exported, dict(zip(wanted, map(torch.from_numpy, outputs)))):
                torch.testing.assert_close(found["scores"], wanted["scores"], atol=1e-4, rtol=1e-3)
                torch.testing.assert_close(found["boxes"], wanted["boxes"], atol=1e-2, rtol=1e-3)
                assert torch.equal(found["classes"], wanted["classes"])
