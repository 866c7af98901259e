"""DefaultPredictor: what goes in, in which channel order, from either kind of config."""

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from PIL import Image
from torch import nn

from detectron2.config import LazyCall as L
from detectron2.config import get_cfg
from detectron2.data import MetadataCatalog
from detectron2.data import transforms as T
from detectron2.data.dataset_mapper import DatasetMapper
from detectron2.engine import DefaultPredictor
from detectron2.modeling import META_ARCH_REGISTRY


@META_ARCH_REGISTRY.register()
class EchoOfPredictorTests(nn.Module):
    """Gives back the mean of each channel and the sizes that it was told, times a weight."""

    def __init__(self, cfg=None):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))

    def forward(self, batch):
        assert not self.training and not torch.is_grad_enabled()
        return [
            {
                "mean": self.scale * d["image"].mean((1, 2)),
                "input": tuple(d["image"].shape[1:]),
                "output": (d["height"], d["width"]),
            }
            for d in batch
        ]


RGB = (200, 100, 20)


@pytest.fixture
def weights(tmp_path):
    path = tmp_path / "weights.pth"
    torch.save({"model": {"scale": torch.tensor([2.0])}}, path)
    return str(path)


def yacs(weights="", order="BGR"):
    cfg = get_cfg()
    cfg.merge_from_list(
        ["MODEL.META_ARCHITECTURE", "EchoOfPredictorTests", "MODEL.DEVICE", "cpu", "MODEL.WEIGHTS", weights,
         "INPUT.FORMAT", order, "INPUT.MIN_SIZE_TEST", 20, "DATASETS.TEST", ("predictor_tests",)]
    )  # fmt: skip
    return cfg


def lazy(weights="", order="BGR"):
    resize = L(T.ResizeShortestEdge)(short_edge_length=20, max_size=1333)
    mapper = L(DatasetMapper)(is_train=False, augmentations=[resize], image_format=order)
    return OmegaConf.create(
        {
            "model": L(EchoOfPredictorTests)(),
            "train": {"device": "cpu", "init_checkpoint": weights},
            "dataloader": {"test": {"dataset": {"names": "predictor_tests"}, "mapper": mapper}},
        },
        flags={"allow_objects": True},
    )


@pytest.fixture
def picture(tmp_path):
    """40 x 60 pixels of one colour, as a file without loss."""
    path = tmp_path / "colour.png"
    Image.new("RGB", (60, 40), RGB).save(path)
    return path


@pytest.mark.parametrize("kind", [yacs, lazy])
@pytest.mark.parametrize("order", ["RGB", "BGR"])
def test_arrays_paths_and_pillow_images_mean_the_same(kind, order, weights, picture):
    predictor = DefaultPredictor(kind(weights, order))
    expected = torch.tensor(RGB if order == "RGB" else RGB[::-1]) * 2.0
    bgr = np.ascontiguousarray(np.asarray(Image.open(picture))[:, :, ::-1])
    for given in (bgr, picture, str(picture), Image.open(picture)):
        out = predictor(given)
        assert torch.allclose(out["mean"], expected, atol=1e-3)
        assert out["input"] == (20, 30) and out["output"] == (40, 60)
        assert not out["mean"].requires_grad


@pytest.mark.parametrize("kind", [yacs, lazy])
def test_batch_equals_single(kind):
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 255, (h, w, 3), dtype=np.uint8) for h, w in ((30, 40), (40, 30), (25, 25))]
    predictor = DefaultPredictor(kind())
    together = predictor.batch(images)
    for image, out in zip(images, together):
        alone = predictor(image)
        assert torch.equal(alone["mean"], out["mean"]) and alone["output"] == out["output"]
    assert predictor.batch([]) == []


def test_turned_photographs_are_upright(tmp_path):
    path = tmp_path / "turned.jpg"
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (60, 40), RGB).save(path, exif=exif)
    for given in (path, Image.open(path)):
        assert DefaultPredictor(yacs())(given)["output"] == (60, 40)


@pytest.mark.parametrize("kind", [yacs, lazy])
def test_the_config_of_the_caller_is_left_alone(kind):
    cfg = kind()
    predictor = DefaultPredictor(cfg)
    assert predictor.cfg is not cfg and predictor.cfg == cfg
    assert predictor.metadata is MetadataCatalog.get("predictor_tests")
    assert not predictor.model.training


@pytest.mark.parametrize("shape", [(20, 30), (20, 30, 4), (1, 20, 30, 3), (0, 30, 3)])
def test_other_shapes_are_refused(shape):
    with pytest.raises(ValueError, match="height, width, 3"):
        DefaultPredictor(yacs())(np.zeros(shape, np.uint8))


def test_a_missing_image_and_missing_weights_are_named(tmp_path):
    with pytest.raises(OSError, match="absent\\.png"):
        DefaultPredictor(yacs())(tmp_path / "absent.png")
    with pytest.raises(OSError, match="absent\\.pth"):
        DefaultPredictor(yacs(str(tmp_path / "absent.pth")))


def test_models_of_other_channels_are_refused():
    with pytest.raises(ValueError, match="'L'"):
        DefaultPredictor(yacs(order="L"))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_values_that_are_not_finite_are_refused(weights, bad):
    image = np.full((20, 30, 3), 9, np.float32)
    image[3, 4, 1] = bad
    with pytest.raises(ValueError, match="not finite"):
        DefaultPredictor(yacs(weights))(image)


def test_integers_beyond_8_bits_are_refused_and_smaller_ones_are_read(weights):
    predictor = DefaultPredictor(yacs(weights))
    image = np.full((20, 30, 3), 9, np.uint8)
    usual = predictor(image)["mean"]
    for kind in (np.uint16, np.int64, np.float32):
        assert torch.allclose(predictor(image.astype(kind))["mean"], usual)
    with pytest.raises(ValueError, match=r"uint16 from 2304 to 2304; divide 16-bit images by 256"):
        predictor(image.astype(np.uint16) * 256)
    with pytest.raises(ValueError, match=r"\[0, 255\]"):
        predictor(image.astype(np.int32) - 10)
