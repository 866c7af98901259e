"""What programs written for Detectron2 get where they look closely: values, shapes, types, and errors that they catch."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from PIL import Image

from detectron2.checkpoint import Checkpointer, PeriodicCheckpointer
from detectron2.config import CfgNode, LazyConfig, configurable, get_cfg
from detectron2.data import DatasetCatalog, MetadataCatalog, detection_utils
from detectron2.data import transforms as T
from detectron2.data.catalog import forget
from detectron2.engine import TrainerBase, hooks
from detectron2.evaluation import COCOEvaluator, DatasetEvaluator, DatasetEvaluators, print_csv_format
from detectron2.layers import DeformConv, mask_ops
from detectron2.structures import (
    Boxes,
    Instances,
    PolygonMasks,
    RotatedBoxes,
    pairwise_iou,
    pairwise_iou_rotated,
)
from detectron2.utils import comm
from detectron2.utils.analysis import find_unused_parameters
from detectron2.utils.errors import CheckFailed
from detectron2.utils.visualizer import GenericMask, VisImage, Visualizer


@pytest.mark.parametrize(
    "transform",
    [
        T.HFlipTransform(7),
        T.VFlipTransform(9),
        T.CropTransform(2, 1, 4, 5),
        T.PadTransform(1, 2, 3, 4),
        T.ScaleTransform(9, 7, 18, 20),
        T.GridSampleTransform(np.random.default_rng(0).uniform(-1, 1, (1, 5, 6, 2)), "bilinear"),
        T.BlendTransform(3.0, 0.5, 0.5),
    ],
    ids=lambda t: type(t).__name__,
)
@pytest.mark.parametrize("kind", [np.uint8, np.float32])
def test_batches_of_images_are_transformed_one_by_one(transform: T.Transform, kind: type) -> None:
    batch = (np.random.default_rng(1).random((3, 9, 7, 4)) * 255).astype(kind)
    got = transform.apply_image(batch)
    np.testing.assert_array_equal(got, np.stack([transform.apply_image(image) for image in batch]))


@pytest.mark.parametrize(
    "transform", [T.CropTransform(1, 2, 9, 9), T.PadTransform(1, 2, 3, 4), T.HFlipTransform(9)]
)
def test_points_keep_their_floating_type(transform: T.Transform) -> None:
    for kind in (np.float32, np.float64):
        assert transform.apply_coords(np.ones((3, 2), kind)).dtype == kind


def test_colour_transforms_pass_on_registered_kinds_of_data_only() -> None:
    blend = T.BlendTransform(0.0, 0.5, 0.5)
    assert not hasattr(blend, "apply_smell")
    assert blend.apply_rotated_box(np.ones((1, 5))).tolist() == [[1] * 5]


def test_crops_of_min_iou_have_the_drawn_size() -> None:
    sizes = {0: (11, 21), 1: (13, 14), 3: (27, 27), 4: (22, 19), 5: (11, 19), 6: (19, 31)}
    for seed, size in sizes.items():
        np.random.seed(seed)
        picture = T.AugInput(np.zeros((29, 43, 3), np.uint8), boxes=np.array([[4.0, 6, 22, 19]]))
        T.MinIoURandomCrop()(picture)
        assert picture.image.shape[:2] == size


def test_pictures_of_one_channel(tmp_path: Path) -> None:
    Image.fromarray(np.full((6, 9), 7, np.uint8)).save(tmp_path / "map.png")
    for mode in ("I", "F", "P", "1", "I;16"):
        assert detection_utils.read_image(str(tmp_path / "map.png"), mode).shape == (6, 9), mode
    assert detection_utils.read_image(str(tmp_path / "map.png"), "L").shape == (6, 9, 1)
    grey = np.arange(12, dtype=np.float32).reshape(3, 4, 1) * 20
    for image in (grey, torch.from_numpy(grey)):
        rgb = detection_utils.convert_image_to_rgb(image, "L")
        assert (rgb == grey.astype(np.uint8)).all() and rgb.shape == (3, 4, 3)
    colours = np.full((2, 2, 3), 200.7, np.float32)
    assert detection_utils.convert_image_to_rgb(colours, "RGB").dtype == np.uint8
    assert detection_utils.convert_image_to_rgb(colours[..., 0], None).shape == (2, 2, 3)


def test_structures() -> None:
    sizes = [(9, 6), (-9, 6), (9, -6), (-9, -6)]
    boxes = [RotatedBoxes(torch.tensor([[12.0, 14, w, h, 0]])) for w, h in sizes]
    overlaps = [float(pairwise_iou_rotated(boxes[0], other)) for other in boxes]
    assert overlaps == pytest.approx([1, 0, 0, 1])
    with pytest.raises(AssertionError, match="pairwise_iou_rotated"):
        pairwise_iou(boxes[0], boxes[0])
    assert PolygonMasks([[[1, 1, 9, 1, 9, 5]]]).area().dtype == torch.float64
    assert DeformConv(2, 2, 3).bias is None


def test_pasted_masks() -> None:
    none = mask_ops.paste_masks_in_image(torch.zeros(0, 28, 28), Boxes(torch.zeros(0, 4)), (20, 30))
    assert none.dtype == torch.uint8 and none.shape == (0, 20, 30)
    masks, boxes = torch.rand(2, 28, 28), torch.tensor([[5.0, 5, 15, 15], [-3, 8, 30, 40]])
    near = mask_ops.paste_masks_in_image(masks, Boxes(boxes), (30, 40), threshold=0.0)
    assert near[0].sum() == 144 and near[0, 4:16, 4:16].all()
    soft, window = mask_ops._do_paste_mask(masks[:, None], boxes, 30, 40)
    whole, nothing = mask_ops._do_paste_mask(masks[:, None], boxes, 30, 40, skip_empty=False)
    assert nothing == () and window == (slice(4, 30), slice(0, 31))
    assert torch.equal(whole[(slice(None), *window)], soft)
    assert whole.sum().item() == pytest.approx(soft.sum().item())
    assert torch.equal(whole >= 0.5, mask_ops.paste_masks_in_image(masks, Boxes(boxes), (30, 40)))


def test_old_pasting_covers_whole_pixels_of_the_box() -> None:
    old = mask_ops.paste_mask_in_image_old(
        torch.ones(8, 8), torch.tensor([5.6, 5.2, 14.9, 24.0]), 20, 30, 0.5
    )
    assert old.dtype == torch.uint8 and old.sum() == 10 * 15 and old[5:20, 5:15].all()
    padded, scale = mask_ops.pad_masks(torch.ones(2, 8, 8), 2)
    assert padded.shape == (2, 12, 12) and padded.sum() == 128 and scale == 1.5
    assert mask_ops.scale_boxes(torch.tensor([[0.0, 0, 4, 8]]), scale).tolist() == [[-1, -2, 5, 10]]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("None", "None"),
        ("none", "none"),
        ("null", None),
        ("NULL", None),
        ("007", "007"),
        ("1_000", 1000),
        ("1.", 1.0),
        ("true", True),
        ("int(3)", 3),
        ("int('3')", 3),
        ("str(3)", "3"),
        ("str(null)", "null"),
        ("float(3)", 3.0),
        ("bool(0)", False),
        ("int([1.5, 2])", [1, 2]),
        ("[str(1), None]", ["1", "None"]),
        ("{a: int(2.0)}", {"a": 2}),
        ("str(int(3.5))", "3"),
        ("integer(3)", "integer(3)"),
    ],
)
def test_overrides_follow_hydras_grammar(text: str, value: object) -> None:
    found = LazyConfig.apply_overrides(OmegaConf.create({"a": 1}), [f"a={text}"])
    assert (OmegaConf.to_container(found)["a"] == value and type(found.a) is not bool) or found.a is value


def test_sections_without_a_body_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("VERSION: 2\nINPUT:\n")
    with pytest.raises(ValueError, match="INPUT"):
        get_cfg().merge_from_file(str(tmp_path / "a.yaml"))


class _Made:
    @configurable
    def __init__(self, a: int) -> None: ...


def _twice() -> None:
    DatasetCatalog.register("twice", list)


def _metadata() -> None:
    MetadataCatalog.get("twice").set(colour=1).set(colour=2)


class _Constant(DatasetEvaluator):
    def evaluate(self) -> dict[str, dict[str, float]]:
        return {"bbox": {"AP": 1.0}}


def _judge(image_id: int, label: int) -> None:
    """Judge a prediction for a data set of one image, whose id is 5, and one class."""
    record = {"image_id": 5, "height": 9, "width": 9, "file_name": ""}
    DatasetCatalog.register("twice", lambda: [record], overwrite=True)
    MetadataCatalog.get("twice").set(thing_classes=["a"], thing_dataset_id_to_contiguous_id={1: 0})
    instances = Instances((9, 9), pred_boxes=Boxes([[0, 0, 5, 5]]), scores=torch.ones(1))
    instances.pred_classes = torch.tensor([label])
    evaluator = COCOEvaluator("twice", allow_cached_coco=False)
    evaluator.process([{"image_id": image_id}], [{"instances": instances}])
    evaluator.evaluate()


@pytest.mark.parametrize(
    ("call", "kind"),
    [
        (_twice, ValueError),
        (_metadata, AttributeError),
        (lambda: MetadataCatalog.get(""), ValueError),
        (lambda: Boxes(torch.zeros(2, 5)), ValueError),
        (lambda: Boxes(torch.tensor([[0, 0, float("nan"), 1]])).clip((3, 3)), ValueError),
        (lambda: Instances((3, 3), a=[1], b=[1, 2]), ValueError),
        (lambda: Instances.cat([]), ValueError),
        (lambda: get_cfg().merge_from_list(["A"]), ValueError),
        (lambda: get_cfg().merge_from_list(["A.B", 1]), KeyError),
        (lambda: get_cfg().merge_from_file("not_here.yaml"), FileNotFoundError),
        (lambda: CfgNode({"a": object()}), TypeError),
        (lambda: T.CropTransform(0, 0, 2, 2).inverse(), ValueError),
        (lambda: T.ResizeTransform(4, 4, 2, 2).apply_image(np.zeros((3, 4))), ValueError),
        (lambda: _Made(get_cfg()), AttributeError),
        (lambda: find_unused_parameters(torch.nn.Linear(2, 2).eval(), torch.zeros(1, 2)), ValueError),
        (lambda: Checkpointer(torch.nn.Linear(1, 1)).load("not_here.pth"), FileNotFoundError),
        (lambda: PeriodicCheckpointer(Checkpointer(torch.nn.Linear(1, 1)), 2, max_to_keep=0), ValueError),
        (lambda: DatasetEvaluators([_Constant(), _Constant()]).evaluate(), ValueError),
        (lambda: print_csv_format([1]), TypeError),  # type: ignore[arg-type]
        (lambda: _judge(image_id=4, label=0), ValueError),
        (lambda: _judge(image_id=5, label=3), ValueError),
    ],
)
def test_refused_arguments_are_assertion_errors_too(call: object, kind: type) -> None:
    DatasetCatalog.register("twice", list, overwrite=True)
    try:
        with pytest.raises(kind) as caught:
            call()  # type: ignore[operator]
        assert isinstance(caught.value, CheckFailed)
    finally:
        forget("twice")


def test_parameters_without_gradient_are_found() -> None:
    class Net(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.used, self.idle = torch.nn.Linear(2, 1), torch.nn.Linear(2, 1)

        def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
            return {"loss": self.used(x).sum()}

    assert find_unused_parameters(Net(), torch.ones(1, 2)) == ["idle.weight", "idle.bias"]


def test_shared_seed_follows_numpy() -> None:
    seeds = []
    for _ in range(2):
        np.random.seed(11)
        seeds.append(comm.shared_random_seed())
    assert seeds[0] == seeds[1]


def test_drawing() -> None:
    black = np.zeros((50, 60, 3), np.uint8)
    for colour in ("C0", "C13", "tab:blue", "tab:grey", ("red", 0.5), "0.7"):
        assert Visualizer(black).draw_box((5, 5, 30, 30), edge_color=colour).get_image().any()
    view = Visualizer(black)
    view.keypoint_threshold = 0.9
    assert not view.draw_and_connect_keypoints(np.array([[10.0, 10, 0.5]])).get_image().any()
    with pytest.raises(AttributeError, match="nothing"):
        VisImage(black).nothing
    ring = np.zeros((40, 50), np.uint8)
    ring[5:35, 5:45], ring[15:25, 20:30] = 1, 0
    mask = GenericMask(ring, 40, 50)
    assert mask.has_holes and len(mask.polygons) == 2


def test_results_come_in_order_and_unlisted_categories_do_not_count(tmp_path: Path) -> None:
    label = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [5, 5, 30, 30], "area": 900, "iscrowd": 0}
    label |= {
        "segmentation": [[5, 5, 35, 5, 35, 35, 5, 35]],
        "keypoints": [9, 9, 2] * 17,
        "num_keypoints": 17,
    }
    image = {"id": 1, "height": 60, "width": 60, "file_name": "a.png"}
    content = {"images": [image], "categories": [{"id": 1, "name": "coin"}], "annotations": [label]}
    (tmp_path / "one.json").write_text(json.dumps(content))
    meta = MetadataCatalog.get("dropin_one").set(json_file=str(tmp_path / "one.json"))
    found = Instances((60, 60), pred_boxes=Boxes(torch.tensor([[5.0, 5, 35, 35]])), scores=torch.ones(1))
    found.pred_classes = torch.tensor([0])
    found.pred_masks = torch.zeros(1, 60, 60, dtype=torch.bool)
    found.pred_keypoints = torch.ones(1, 17, 3)
    evaluator = COCOEvaluator("dropin_one", tasks=("segm", "keypoints", "bbox"), distributed=False)
    evaluator.process([{"image_id": 1}], [{"instances": found}])
    results = evaluator.evaluate()
    assert list(results) == ["bbox", "keypoints", "segm"]
    assert not results["bbox"]["AP"] > 0  # class 0 is no category of the file
    assert "lists none of the detected categories" in evaluator.reasons[0]
    meta.thing_dataset_id_to_contiguous_id = {1: 0}
    evaluator = COCOEvaluator("dropin_one", distributed=False)
    evaluator.process([{"image_id": 1}], [{"instances": found}])
    assert evaluator.evaluate()["bbox"]["AP"] == pytest.approx(100)
    forget("dropin_one")


class _Twice(torch.utils.data.IterableDataset):
    def __iter__(self) -> object:
        return iter([{"width": 4, "height": 3}] * 3)


def test_data_sets_are_pickled_with_lambdas_and_iterated_twice() -> None:
    import pickle

    from detectron2.data.common import AspectRatioGroupedDataset, MapDataset

    offset = 5
    for source in ([1, 2], _Twice()):
        again = pickle.loads(pickle.dumps(MapDataset(source, lambda x: (x, offset))))
        assert next(iter(again))[1] == 5
    grouped = AspectRatioGroupedDataset(_Twice(), 2)
    assert len(list(grouped)) == len(list(grouped)) == 1 and len(grouped.waiting()) == 1


def test_flops_are_counted_in_evaluation_mode() -> None:
    from detectron2.utils.analysis import FlopCountAnalysis

    class Net(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc, self.idle = torch.nn.Linear(2, 3), torch.nn.Linear(2, 3).eval()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            assert not self.training
            return self.fc(x)

    net = Net().train()
    net.idle.eval()
    flops = FlopCountAnalysis(net, torch.ones(1, 2))
    assert flops.total() == 6 and flops.uncalled_modules() == {"idle"} and not flops.unsupported_ops()
    assert net.training and net.fc.training and not net.idle.training


def test_names_that_old_programs_call() -> None:
    from detectron2.checkpoint.c2_model_loading import _longest_common_prefix_str
    from detectron2.modeling.roi_heads.fast_rcnn import fast_rcnn_inference_single_image
    from detectron2.solver.build import _expand_param_groups
    from detectron2.utils.env import fixup_module_metadata
    from detectron2.utils.testing import skipIfOnCPUCI

    boxes = torch.tensor([[0.0, 0, 9, 9], [20, 20, 29, 29]])
    found, kept = fast_rcnn_inference_single_image(
        boxes, torch.tensor([[0.1, 0.9], [0.8, 0.2]]), (30, 30), 0.5, 0.5, 9
    )
    assert found.scores.tolist() == pytest.approx([0.8]) and kept.tolist() == [1]
    weight = torch.nn.Parameter(torch.ones(1))
    groups = _expand_param_groups([{"params": [weight], "lr": 1}, {"params": [weight], "weight_decay": 2}])
    assert groups == [{"params": [weight], "lr": 1, "weight_decay": 2}]
    assert _longest_common_prefix_str(["conv_w", "conv_b"]) == "conv_"
    own = type("Inner", (), {"__module__": "package.inside"})
    fixup_module_metadata("package", {"Outer": own, "left": 1})
    assert (own.__module__, own.__name__) == ("package", "Outer")
    assert callable(skipIfOnCPUCI(lambda: None))


def test_errors_of_relative_imports_say_so(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    for line, text in (
        ("from .nothing import a", "not exist"),
        ("from . import a", "relative import"),
        ("from .folder import a", "relative import"),
    ):
        (tmp_path / "c.py").write_text(line)
        with pytest.raises(ImportError, match=text):
            LazyConfig.load(str(tmp_path / "c.py"))


def test_the_printer_shows_what_is_marked_as_metric(caplog: pytest.LogCaptureFixture) -> None:
    from detectron2.utils.events import CommonMetricPrinter, EventStorage

    with EventStorage() as storage, caplog.at_level("INFO", logger="detectron2.utils.events"):
        storage.put_scalars(**{"[metric]iou": 0.5, "other": 1.0, "total_loss": 2.0})
        CommonMetricPrinter().write()
    assert "[metric]iou: 0.5" in caplog.text and "total_loss" in caplog.text and "other" not in caplog.text


@pytest.mark.parametrize(("warmup", "recorded"), [(0, 50), (3, 48), (10, 41)])
def test_the_timer_records_from_an_iteration_on(warmup: int, recorded: int) -> None:
    class Trainer(TrainerBase):
        def run_step(self) -> None: ...

    trainer = Trainer()
    trainer.register_hooks([hooks.IterationTimer(warmup_iter=warmup)])
    trainer.train(0, 50)
    assert len(trainer.storage.history("time").values()) == recorded
