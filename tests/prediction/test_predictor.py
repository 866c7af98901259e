"""One predictor: what goes in, what comes out, alone, in batches, in streams, in threads and in other processes."""

import pickle
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from PIL import Image

import detectron2
from detectron2.config import get_cfg
from detectron2.engine import DefaultPredictor
from detectron2.engine.run_config import run_config
from detectron2.prediction import Predictor
from detectron2.prediction.augmented import augmented_model
from detectron2.prediction.batching import batched, in_batches, read_ahead
from detectron2.prediction.selection import least_score
from detectron2.utils.errors import UnknownNameError, UserError

from .conftest import picture


@pytest.fixture(scope="module")
def predictor(tiny_file):
    return Predictor(tiny_file, device="cpu", scores=None, batch_size=2, input_format="RGB")


def same(a, b, tolerance=1e-4):
    a, b = a["instances"].to("cpu"), b["instances"].to("cpu")
    assert a.get_fields().keys() == b.get_fields().keys() and len(a) == len(b) > 0
    assert torch.allclose(a.pred_boxes.tensor, b.pred_boxes.tensor, atol=100 * tolerance)
    assert torch.allclose(a.scores, b.scores, atol=tolerance)
    assert torch.equal(a.pred_classes, b.pred_classes)
    assert (a.pred_masks != b.pred_masks).float().mean() < 0.01
    return True


def test_the_package_hands_it_out():
    assert detectron2.Predictor is Predictor
    with pytest.raises(AttributeError, match="nothing"):
        _ = detectron2.nothing


def test_equals_the_default_predictor(tiny_cfg, photos):
    path = photos / "a.jpg"
    bgr = np.ascontiguousarray(np.asarray(Image.open(path))[:, :, ::-1])
    for given in (path, bgr):
        assert same(Predictor(tiny_cfg, scores=None)(given), DefaultPredictor(tiny_cfg)(given), 1e-6)


def test_every_form_of_a_picture_means_the_same(predictor, tmp_path):
    rgb = picture(height=64, width=80)  # not resized: floating-point pictures would not be rounded then
    path = tmp_path / "p.png"
    Image.fromarray(rgb).save(path)
    expected = predictor(path)
    alpha = np.concatenate([rgb, np.full((*rgb.shape[:2], 1), 7, np.uint8)], axis=2)
    for given in (
        str(path), path.read_bytes(), Image.open(path), rgb, rgb.astype(np.float32), rgb.astype(np.uint16), alpha,
        torch.from_numpy(rgb.copy()).permute(2, 0, 1), Image.fromarray(alpha), rgb[:, ::-1][:, ::-1],
    ):  # fmt: skip
        assert same(predictor(given), expected)
    reversed_order = Predictor(predictor.backend.cfg, scores=None, input_format="BGR")
    assert same(reversed_order(rgb[:, :, ::-1]), expected, 1e-6)


def test_lists_stacks_and_empty_lists(predictor):
    pictures = [picture(0), picture(1, 64, 48), picture(2), picture(3), picture(4, 30, 90)]
    found = predictor(pictures)
    for given, output in zip(pictures, found, strict=True):
        assert same(output, predictor(given))
    stack = np.stack(pictures[:1] * 3)
    assert len(predictor(stack)) == len(predictor(torch.from_numpy(stack).permute(0, 3, 1, 2))) == 3
    assert predictor([]) == [] and predictor(iter([])) == []


def test_scores_and_classes(tiny_cfg):
    every = Predictor(tiny_cfg, scores=None)(picture())["instances"]
    cut = float(every.scores.median())
    few = Predictor(tiny_cfg, scores=cut)(picture())["instances"]
    assert 0 < len(few) < len(every) and (few.scores >= cut).all()
    for wanted in ("square", ["square"], [1]):
        only = Predictor(tiny_cfg, scores=None, classes=wanted)(picture())["instances"]
        assert len(only) == int((every.pred_classes == 1).sum()) and (only.pred_classes == 1).all()
    assert len(Predictor(tiny_cfg, scores=1.0, classes=[])(picture())["instances"]) == 0
    with pytest.raises(UnknownNameError, match="'square'"):
        Predictor(tiny_cfg, classes=["sqare"])
    with pytest.raises(ValueError, match="0 to 1, got 2"):
        Predictor(tiny_cfg, classes=[2])


def test_masks_are_predicted_for_wanted_objects_only(tiny_cfg):
    every = Predictor(tiny_cfg, scores=None)(picture())["instances"]
    ranked = every.scores.sort(descending=True).values
    cut = float(ranked[3])  # an object of just this score is wanted, too
    predictor = Predictor(tiny_cfg, scores=cut)
    model = predictor.backend.model
    seen = []
    model.roi_heads.mask_head.register_forward_hook(lambda module, given, result: seen.append(len(given[0])))
    found = predictor(picture())["instances"]
    assert seen == [len(found)] == [int((ranked >= cut).sum())]
    assert same({"instances": found}, {"instances": every[every.scores >= cut]}, 1e-6)
    layers = model.roi_heads.box_predictor
    assert layers.test_score_thresh == 0.0  # the model itself stays as it is
    with least_score(model, 0.3):
        assert 0.3 - 1e-6 < layers.test_score_thresh < 0.3
    model.combine_instances_score_thresh = 0.2  # panoptic segments may need objects that are not shown
    with least_score(model, 0.3):
        assert 0.2 - 1e-6 < layers.test_score_thresh < 0.2
    layers.soft_nms = object()  # lowers scores after the choice
    with least_score(model, 0.3):
        assert layers.test_score_thresh == 0.0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 0}, "batch_size"),
        ({"scores": 1.5}, "scores"),
        ({"precision": "int4"}, "'int4'"),
        ({"input_format": "RBG"}, "'RBG'"),
        ({"device": "gpu"}, "gpu"),
    ],
)
def test_bad_options_are_refused(tiny_cfg, options, message):
    with pytest.raises((ValueError, RuntimeError), match=message):
        Predictor(tiny_cfg, **options)


def test_several_sizes_are_merged_where_this_is_defined(tiny_cfg, photos):
    tiny_cfg.TEST.AUG.FLIP = False
    one = Predictor(tiny_cfg, scores=None)
    one.augment([64])  # the size of testing
    path = photos / "a.jpg"
    assert same(one(path), Predictor(tiny_cfg, scores=None)(path), 1e-5)
    tiny_cfg.TEST.AUG.FLIP = True
    several = Predictor(tiny_cfg, scores=None)
    several.augment([48, 64])
    found = several(path)["instances"]
    assert found.image_size == one(path)["instances"].image_size
    assert found.pred_masks.shape == (len(found), *found.image_size)
    assert not torch.equal(found.scores, one(path)["instances"].scores)


def test_models_without_merging_refuse_several_sizes(tiny_cfg):
    class Other(torch.nn.Module):
        pass

    with pytest.raises(UserError, match="not defined for Other"):
        augmented_model(run_config(tiny_cfg), Other())


def test_models_that_are_not_there_and_weights_that_are_not_whole(tiny_cfg, tiny_file, tmp_path):
    with pytest.raises(UserError, match="no config 'nowhere'"):
        Predictor("nowhere")
    with pytest.raises(UserError, match=r"no run\.json"):
        Predictor(tmp_path)
    bare = get_cfg()
    bare.MODEL.DEVICE = "cpu"
    with pytest.raises(UserError, match="names no weights"):
        Predictor(bare)
    weights = torch.load(tiny_cfg.MODEL.WEIGHTS, weights_only=True)["model"]
    part = {k: v for k, v in weights.items() if "mask_head" not in k}
    torch.save({"model": part}, tmp_path / "part.pth")
    with pytest.raises(UserError, match="mask_head"):
        Predictor(tiny_file, weights=str(tmp_path / "part.pth"), device="cpu")


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_half_precision_finds_the_like_and_answers_in_float32(tiny_cfg, precision):
    half = Predictor(tiny_cfg, scores=None, precision=precision)(picture())["instances"]
    whole = Predictor(tiny_cfg, scores=None)(picture())["instances"]
    assert half.scores.dtype == half.pred_boxes.tensor.dtype == torch.float32
    assert abs(float(half.scores.max() - whole.scores.max())) < 0.1


# -- streams ------------------------------------------------------------------------------------


def test_a_stream_is_in_order_and_equals_single_calls(predictor, photos):
    found = list(predictor.stream([photos, photos / "a.jpg", picture(9), str(photos / "*.jpg")]))
    names = ["a.jpg", "b.jpg", "c.jpg", "d.jpg", "a.jpg", "picture 0", "a.jpg", "b.jpg", "c.jpg"]
    assert [p.source.rsplit("/", 1)[-1] for p in found] == names
    for p in found:
        assert p.frame is None and p.time is None and p.metadata is predictor.metadata
        assert same(p.outputs, predictor(p.image))
    assert found[0].draw().get_image().shape == found[0].image.shape


def test_a_stream_skips_and_counts_what_cannot_be_read_or_raises(predictor, photos):
    (photos / "a.jpg").write_bytes((photos / "b.jpg").read_bytes()[:300])
    (photos / "c.jpg").write_bytes(b"")
    with predictor.stream(photos, skip=True) as stream:
        assert [p.source.rsplit("/", 1)[-1] for p in stream] == ["b.jpg", "d.jpg"]
    assert stream.num_skipped == 2 and stream.num_read == 2
    assert [name.rsplit("/", 1)[-1] for name, _, _ in stream.skipped] == ["a.jpg", "c.jpg"]
    with pytest.raises(OSError, match=r"Truncated|identify"):
        list(predictor.stream(photos))
    for name in ("absent.jpg", "absent/*.jpg"):
        with pytest.raises(UserError, match="absent"):
            list(predictor.stream(photos / name, skip=True))


def test_names_of_many_pictures_belong_into_a_stream(predictor, photos):
    for name in (photos, photos / "*.jpg", "clip.mp4", "camera:0"):
        with pytest.raises(ValueError, match="stream"):
            predictor(str(name))


def test_an_endless_stream_is_read_a_bounded_number_ahead(predictor):
    taken = 0

    def endless():
        nonlocal taken
        while True:
            taken += 1
            yield picture(taken % 5, *((48, 64) if taken % 3 else (64, 48)))

    with predictor.stream(endless()) as stream:
        for _ in range(7):
            next(stream)
        assert taken < 7 + 4 * 2 + 3 * 2 + 4
    before = taken
    with pytest.raises(StopIteration):
        next(stream)
    assert taken == before
    assert not [t for t in threading.enumerate() if t.name == "read-ahead"]


@pytest.mark.parametrize("size", [1, 2, 3])
def test_batches_have_one_shape_and_results_keep_the_order(size):
    rng = np.random.default_rng(size)
    items = [(k, int(rng.integers(3))) for k in range(50)]
    batches = []

    def run(batch):
        batches.append([shape for _, shape in batch])
        return [k * 10 for k, _ in batch]

    assert list(in_batches(items, lambda i: i[1], run, size)) == [(i, i[0] * 10) for i in items]
    assert all(len(set(b)) == 1 and len(b) <= size for b in batches)
    assert len(batches) < 50 / size + 12
    positions = batched([shape for _, shape in items], size)
    assert sorted(k for b in positions for k in b) == list(range(50))
    assert all(len({items[k][1] for k in b}) == 1 and len(b) <= size for b in positions)


def test_reading_ahead_hands_on_errors_behind_the_items_before_them():
    def items():
        yield from range(3)
        raise RuntimeError("broken")

    stream = read_ahead(items(), 1)
    assert [next(stream) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(RuntimeError, match="broken"):
        next(stream)
    assert list(read_ahead([], 2)) == []


# -- threads, processes, columns ----------------------------------------------------------------


def test_threads_share_one_predictor(predictor):
    pictures = [picture(k) for k in range(4)]
    alone = [predictor(p) for p in pictures]
    with ThreadPoolExecutor(4) as pool:
        for output, expected in zip(pool.map(predictor, pictures * 3), alone * 3, strict=True):
            assert same(output, expected, 1e-6)


def test_a_pickled_predictor_predicts_the_same(predictor):
    copied = pickle.loads(pickle.dumps(predictor))
    assert same(copied(picture()), predictor(picture()), 1e-6)
    assert copied.metadata.thing_classes == predictor.metadata.thing_classes
    assert (copied.batch_size, copied.input_format) == (2, "RGB")


def test_columns_in_and_out(predictor, photos):
    files = sorted(str(p) for p in photos.glob("*.jpg"))
    ragged = np.empty(3, dtype=object)
    ragged[:] = [np.asarray(Image.open(f)) for f in files]
    encoded = np.array([(photos / f).read_bytes() for f in files], dtype=object)
    for column, values in (("path", np.array(files)), ("image", ragged), ("bytes", encoded)):
        found = predictor({column: values, "id": np.arange(3)})
        assert found["id"].tolist() == [0, 1, 2] and ("path" in found) == (column == "path")
        for k, file in enumerate(files):
            one = predictor(file)["instances"]
            assert np.allclose(found["boxes"][k], one.pred_boxes.tensor.numpy(), atol=1e-2)
            assert found["classes"][k].tolist() == one.pred_classes.tolist()
            assert set(found["class_names"][k]) <= {"disc", "square"}
            assert len(found["masks"][k]) == len(one) and '"counts"' in found["masks"][k][0]
    stacked = predictor({"image": np.stack([picture(), picture(1)])})
    assert len(stacked["scores"]) == 2
    nothing = predictor({"path": np.array([], dtype=object), "id": np.arange(0)})
    assert set(nothing) == {"path", *found} and not any(
        map(len, nothing.values())
    )  # an empty part of a table
    with pytest.raises(KeyError, match="'image' or 'bytes' or 'path'"):
        predictor({"pixels": ragged})


def test_a_prediction_shows_itself_with_names(predictor):
    found = next(predictor.stream(picture()))
    text = found._repr_html_()
    assert "data:image/png;base64," in text and "picture 0" in text and ("disc" in text or "square" in text)


def test_orders_are_compared_by_the_model(predictor):
    picture_sums = predictor.compare_orders([picture(), picture(1)])
    turned = predictor.compare_orders([picture()[:, :, ::-1], picture(1)[:, :, ::-1]])
    assert picture_sums["BGR"] == pytest.approx(turned["RGB"]) and picture_sums["RGB"] == pytest.approx(
        turned["BGR"]
    )
