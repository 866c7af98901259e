"""The fast engine, whole, in shards and as ``COCOeval_opt``, gives what pycocotools gives, bit for bit."""

import contextlib
import io
from dataclasses import replace

import numpy as np
import pytest
from pycocotools.cocoeval import COCOeval

from detectron2.evaluation.coco import engines as engines
from detectron2.evaluation.coco.figures import headline, summary_numbers
from detectron2.evaluation.coco.truth import GroundTruth
from detectron2.evaluation.coco_evaluation import COCOevalMaxDets, _evaluate_predictions_on_coco
from detectron2.evaluation.fast_eval_api import COCOeval_opt

TASKS = ("bbox", "segm", "keypoints")


def reference(truth, found, task, caps=None, img_ids=None):
    """Figures by pycocotools from result dicts."""
    results = engines._result_dicts(found, task)
    return engines.pycocotools_eval(truth.pycocotools, results, task, caps, None, img_ids)


def fast(truth, found, task, caps=None, img_ids=None):
    return engines.figures_of(engines.hotcoco_eval(truth, found, task, caps, None, img_ids), task)


def assert_same(figures, matcher):
    for key in ("precision", "recall", "scores"):
        np.testing.assert_array_equal(figures.eval[key], matcher.eval[key], err_msg=key)


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("seed", range(4))
def test_arrays_and_stats_equal_pycocotools(make_case, task, seed):
    truth, found = make_case(seed, task)
    matcher = reference(truth, found, task)
    figures = fast(truth, found, task)
    assert_same(figures, matcher)
    with contextlib.redirect_stdout(io.StringIO()):
        matcher.summarize()
    np.testing.assert_array_equal(figures.stats, matcher.stats)
    assert figures.precision.shape[2] == 4


@pytest.mark.parametrize("caps", [(1, 10, 3), (1, 10, 40), (1, 10, 150)])
def test_caps_and_more_than_100_detections(make_case, caps):
    truth, found = make_case(99, "bbox", images=3, most=900)
    assert max(len(d) for d in found) > 100
    assert_same(fast(truth, found, "bbox", caps), reference(truth, found, "bbox", caps))


def test_subset_of_images(make_case):
    truth, found = make_case(5)
    some = list(truth.images)[2:5]
    assert_same(fast(truth, found, "bbox", img_ids=some), reference(truth, found, "bbox", img_ids=some))


@pytest.mark.parametrize("task", TASKS)
def test_no_detections_at_all(make_case, task):
    truth, found = make_case(3, task, most=1)
    figures = fast(truth, found, task)
    assert_same(figures, reference(truth, found, task))
    assert headline(figures)["AP"] == 0


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("seed", range(4))
def test_shards_merge_to_the_whole(make_case, task, seed):
    """Any split of the images, in any order, with images left to the main process."""
    truth, found = make_case(seed + 50, task, images=13)
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(found))
    parts = [[found[i] for i in part] for part in np.array_split(order, 3)]
    lost = [d.image_id for d in parts[0] if not len(d)]
    parts[0] = [d for d in parts[0] if len(d)]
    streams = [
        engines.stream_shard(truth, p, task, without_detections=lost if k == 0 else ())
        for k, p in enumerate(parts)
    ]
    merged = engines.figures_of(engines.merge_shards([s.to_bytes() for s in streams]), task)
    whole = fast(truth, found, task)
    for key in ("precision", "recall", "scores"):
        np.testing.assert_array_equal(merged.eval[key], whole.eval[key], err_msg=key)


@pytest.mark.parametrize(("task", "most"), [("bbox", 500), ("segm", 160), ("keypoints", 160)])
@pytest.mark.parametrize("caps", [None, (1, 10, 7), (1, 10, 150)])
def test_streams_with_more_detections_than_the_cap(make_case, task, most, caps):
    """One class, many equal scores: which detections are left out before matching must not matter."""
    truth, found = make_case(7, task, images=4, categories=2, most=most)
    found = [replace(d, category_ids=np.full(len(d), 3), scores=np.round(d.scores, 1)) for d in found]
    assert max(len(d) for d in found) > 100
    caps = caps[-1:] if caps and task == "keypoints" else caps
    found = sorted(found, key=lambda d: d.image_id)
    stream = engines.stream_shard(truth, found, task, caps)
    assert_same(engines.figures_of(stream.finalize(), task), reference(truth, found, task, caps))


@pytest.mark.parametrize("task", TASKS)
def test_coco_eval_opt_is_a_drop_in(make_case, task):
    truth, found = make_case(21, task)
    with contextlib.redirect_stdout(io.StringIO()):
        both = []
        for cls in (COCOeval, COCOeval_opt):
            results = engines._result_dicts(found, task)  # anew: loadRes changes them
            matcher = cls(truth.pycocotools, truth.pycocotools.loadRes(results), task)
            matcher.params.imgIds = list(truth.images)[1:]
            matcher.evaluate()
            matcher.accumulate()
            matcher.summarize()
            both.append(matcher)
    assert_same(both[1], both[0])
    np.testing.assert_array_equal(both[1].stats, both[0].stats)
    assert both[1].eval["counts"] == both[0].eval["counts"]


def test_coco_eval_opt_without_categories(make_case):
    truth, found = make_case(22)
    with contextlib.redirect_stdout(io.StringIO()):
        both = []
        for cls in (COCOeval, COCOeval_opt):
            matcher = cls(
                truth.pycocotools, truth.pycocotools.loadRes(engines._result_dicts(found, "bbox")), "bbox"
            )
            matcher.params.useCats = 0
            matcher.evaluate()
            matcher.accumulate()
            both.append(matcher)
    assert_same(both[1], both[0])


def test_evaluate_predictions_on_coco_keeps_its_contract(make_case):
    truth, found = make_case(23, "segm")
    results = [entry for d in found for entry in d]
    with contextlib.redirect_stdout(io.StringIO()):
        whole = _evaluate_predictions_on_coco(truth.pycocotools, results, "segm")
        capped = _evaluate_predictions_on_coco(
            truth.pycocotools, results, "segm", max_dets_per_image=[1, 10, 5]
        )
    assert "bbox" in results[0]
    np.testing.assert_array_equal(whole.stats, fast(truth, found, "segm").stats)
    assert isinstance(capped, COCOevalMaxDets)
    np.testing.assert_array_equal(capped.stats, fast(truth, found, "segm", (1, 10, 5)).stats)


def test_summary_of_a_set_without_ground_truth_is_undefined():
    truth = GroundTruth({"images": [{"id": 1}], "annotations": [], "categories": [{"id": 1, "name": "a"}]})
    figures = fast(truth, [], "bbox")
    assert (summary_numbers(figures) == -1).all()
    assert all(np.isnan(v) for v in headline(figures).values())


def test_ids_that_the_engine_does_not_take():
    make = lambda i: GroundTruth({"images": [{"id": i}], "categories": [{"id": 1}]})  # noqa: E731
    assert engines.can_use_hotcoco(make(3))
    assert not engines.can_use_hotcoco(make("abc"))
    assert not engines.can_use_hotcoco(make(-1))
