"""What lies behind an AP, against slow obvious versions on cases made by hand."""

import json

import numpy as np
import pytest

from detectron2.evaluation.coco import engines as engines
from detectron2.evaluation.coco.detections import from_json_dicts
from detectron2.evaluation.coco.truth import GroundTruth
from detectron2.evaluation.diagnosis.compare import compare_models
from detectron2.evaluation.diagnosis.diagnose import (
    IGNORED,
    RIGHT,
    WRONG,
    calibration,
    confusion_matrix,
    curve_of,
    diagnose,
    error_types,
    match_detections,
    worst_images,
)

CAT, DOG = 4, 9


def make_truth(*objects):
    """Ground truth of (image, category, box) or (image, category, box, iscrowd); boxes are XYWH."""
    rows = [(*o, 0)[:4] for o in objects]
    return GroundTruth(
        {
            "images": [{"id": i, "height": 100, "width": 200, "file_name": f"{i}.jpg"} for i in (1, 2, 3)],
            "categories": [{"id": CAT, "name": "cat"}, {"id": DOG, "name": "dog"}],
            "annotations": [
                {"id": k, "image_id": i, "category_id": c, "bbox": b, "area": b[2] * b[3], "iscrowd": crowd}
                for k, (i, c, b, crowd) in enumerate(rows, start=1)
            ],
        }
    )


def make_found(*rows):
    """Detections of (image, category, box, score), one entry per image."""
    dicts = [{"image_id": i, "category_id": c, "bbox": b, "score": s} for i, c, b, s in rows]
    return [from_json_dicts([d for d in dicts if d["image_id"] == i], i) for i in (1, 2, 3)]


def iou_of(a, b):
    wide = max(0, min(a[0] + a[2], b[0] + b[2]) - max(a[0], b[0]))
    high = max(0, min(a[1] + a[3], b[1] + b[3]) - max(a[1], b[1]))
    return wide * high / (a[2] * a[3] + b[2] * b[3] - wide * high)


def slow_status(truth, rows, threshold=0.5):
    """Right or wrong for each detection, object by object, in the order of scores; no crowds."""
    taken, status = set(), {}
    for k in sorted(range(len(rows)), key=lambda k: -rows[k][3]):
        image, category, box, _ = rows[k]
        free = [
            a
            for a in truth.annotations
            if (a["image_id"], a["category_id"]) == (image, category) and a["id"] not in taken
        ]
        best = max(free, key=lambda a: iou_of(a["bbox"], box), default=None)
        hit = best is not None and iou_of(best["bbox"], box) >= threshold
        status[k] = RIGHT if hit else WRONG
        if hit:
            taken.add(best["id"])
    return [status[k] for k in range(len(rows))], taken


BOX = [10, 10, 40, 40]
FAR = [120, 40, 40, 40]
SHIFTED = [30, 10, 40, 40]  # IoU 1/3 with BOX


def errors_of(truth, found):
    matcher = engines.hotcoco_eval(truth, found, "bbox")
    return error_types(matcher, match_detections(matcher, truth, found), truth, found)


def matches_of(truth, found):
    return match_detections(engines.hotcoco_eval(truth, found, "bbox"), truth, found)


@pytest.mark.parametrize("seed", range(8))
def test_matches_equal_a_slow_version(seed):
    rng = np.random.default_rng(seed)
    truth = make_truth(
        *((int(rng.integers(1, 4)), int(rng.choice([CAT, DOG])), [*rng.uniform(0, 50, 2), 30.0, 25.0]) for _ in range(8))
    )  # fmt: skip
    rows = []
    scores = rng.permutation(30) / 30 + 0.01
    for k in range(30):
        near = truth.annotations[int(rng.integers(8))]
        box = [near["bbox"][0] + rng.normal(0, 8), near["bbox"][1] + rng.normal(0, 8), 30.0, 25.0]
        rows.append((near["image_id"], int(rng.choice([CAT, DOG])), box, float(scores[k])))
    rows.sort(key=lambda r: r[0])  # as the detections lie: image by image
    status, taken = slow_status(truth, rows)
    matches = matches_of(truth, make_found(*rows))
    assert matches.status.tolist() == status
    assert set(matches.truth[matches.status == RIGHT].tolist()) == taken
    assert set(matches.missed) == {a["id"] for a in truth.annotations} - taken
    for category in (CAT, DOG):
        curve = curve_of(matches, category)
        own = [(r[3], s) for r, s in zip(rows, status) if r[1] == category]
        objects = sum(a["category_id"] == category for a in truth.annotations)
        for k, threshold in enumerate(curve.score):
            shown = [s for score, s in own if score >= threshold]
            hits = shown.count(RIGHT)
            assert curve.precision[k] == pytest.approx(hits / len(shown))
            assert curve.f1[k] == pytest.approx(2 * hits / (len(shown) + objects))
            if objects:
                assert curve.recall[k] == pytest.approx(hits / objects)


@pytest.mark.parametrize(
    ("kind", "wrong"),
    [
        ("Cls", (1, DOG, BOX, 0.9)),
        ("Loc", (1, CAT, SHIFTED, 0.9)),
        ("Both", (1, DOG, SHIFTED, 0.9)),
        ("Bkg", (1, CAT, FAR, 0.9)),
        ("Dupe", (1, CAT, BOX, 0.4)),
    ],
)
def test_each_kind_of_error_is_counted_once(kind, wrong):
    truth = make_truth((1, CAT, BOX), (2, DOG, BOX))
    right = [(2, DOG, BOX, 0.8), *([(1, CAT, BOX, 0.7)] if kind in ("Dupe", "Bkg") else [])]
    errors = errors_of(truth, make_found(wrong, *right))
    others = {k: n for k, n in errors.counts.items() if n and k not in (kind, "Miss")}
    assert errors.counts[kind] == 1 and not others


def test_a_missed_object_costs_its_share():
    truth = make_truth((1, CAT, BOX), (2, CAT, BOX))
    errors = errors_of(truth, make_found((1, CAT, BOX, 0.9)))
    assert {k: n for k, n in errors.counts.items() if n} == {"Miss": 1}
    recalls = np.linspace(0, 1, 101)
    assert errors.base == pytest.approx(100 * (recalls <= 0.5).mean())
    assert errors.cost["Miss"] == pytest.approx(100 - errors.base)
    assert errors.cost["Bkg"] == 0


def test_a_class_of_which_nothing_was_found_costs_its_whole_ap():
    truth = make_truth((1, CAT, BOX), (2, DOG, BOX), (3, DOG, FAR))
    nothing = errors_of(truth, make_found())
    assert (nothing.base, nothing.cost["Miss"], nothing.counts["Miss"]) == (0, 100, 3)
    one = errors_of(truth, make_found((1, CAT, BOX, 0.9), (3, DOG, [0, 80, 10, 10], 0.8)))
    assert one.base == pytest.approx(50) and one.cost["Miss"] == pytest.approx(50)
    beside = errors_of(truth, make_found((1, CAT, BOX, 0.9), (2, DOG, SHIFTED, 0.8)))
    assert beside.cost["Miss"] < 50, "one of the dogs was seen, in the wrong place"


def test_confusion():
    truth = make_truth((1, CAT, BOX), (1, DOG, FAR), (2, DOG, BOX), (3, CAT, BOX))
    rows = [
        (1, CAT, BOX, 0.9),  # right
        (1, CAT, FAR, 0.8),  # a dog taken for a cat
        (2, CAT, FAR, 0.7),  # nothing there; and the dog of image 2 is missed
        (3, DOG, BOX, 0.1),  # below the cut: the cat of image 3 is missed
    ]
    matcher = engines.hotcoco_eval(truth, make_found(*rows), "bbox")
    found = confusion_matrix(matcher, {CAT: "cat", DOG: "dog"}, min_score=0.3)
    assert found.names == ("cat", "dog")
    assert found.matrix.tolist() == [[1, 0, 1], [1, 0, 1], [1, 0, 0]]
    everything = confusion_matrix(matcher, {}, min_score=0.0)
    assert everything.names == (str(CAT), str(DOG))
    assert everything.matrix[0].tolist() == [1, 1, 0]


@pytest.mark.parametrize("bins", [1, 4, 300])  # of many, some are empty
def test_calibration_equals_a_slow_version(bins, make_case):
    truth, found = make_case(3, images=10)
    matches = matches_of(truth, found)
    told = calibration(matches, bins)
    pairs = [(s, r == RIGHT) for s, r in zip(matches.score.tolist(), matches.status.tolist()) if r != IGNORED]
    total = 0.0
    for k in range(bins):
        own = [p for p in pairs if k <= p[0] * bins < k + 1 or (k == bins - 1 and p[0] == 1)]
        assert told.count[k] == len(own)
        if not own:
            assert np.isnan(told.accuracy[k])
            continue
        score, share = np.mean([p[0] for p in own]), np.mean([p[1] for p in own])
        assert (told.confidence[k], told.accuracy[k]) == (pytest.approx(score), pytest.approx(share))
        total += len(own) * abs(score - share)
    assert told.ece == pytest.approx(total / len(pairs))


def test_worst_images_come_first_and_crowds_are_no_errors():
    truth = make_truth(
        (1, CAT, BOX), (2, CAT, BOX), (2, DOG, FAR), (3, CAT, BOX), (3, DOG, [0, 0, 100, 100], 1)
    )
    rows = [
        (1, CAT, BOX, 0.9),
        (1, CAT, FAR, 0.2),  # below the cut
        (2, CAT, FAR, 0.6),
        (2, DOG, BOX, 0.8),
        (3, CAT, BOX, 0.9),
        (3, CAT, FAR, 0.7),
        (3, DOG, BOX, 0.9),  # in the crowd
    ]
    found = make_found(*rows)
    result = worst_images(matches_of(truth, found), truth, found, {CAT: 0.5, DOG: float("nan")})
    assert [(e.image_id, e.right, e.false, e.missed) for e in result] == [
        (2, 0, (1, 0), (2, 3)),
        (3, 1, (1,), ()),
    ]
    assert result[0].file_name == "2.jpg" and result[0].errors == 4
    assert len(worst_images(matches_of(truth, found), truth, found, {}, top=1)) == 1


def test_diagnosis_agrees_with_its_parts(make_case):
    truth, found = make_case(5, images=10)
    told = diagnose(truth, found, top=3)
    aps = [row.ap for row in told.classes if np.isfinite(row.ap)]
    assert told.summary["AP"] == pytest.approx(np.mean(aps))
    assert told.summary["AP"] == pytest.approx(np.mean(list(told.by_iou.values())))
    assert told.summary["AP50"] == pytest.approx(told.by_iou[0.5])
    assert told.by_size["all"]["AP"] == pytest.approx(told.summary["AP"])
    assert sum(row.detections for row in told.classes) == sum(len(d) for d in found)
    assert len(told.worst) <= 3
    for row in told.classes:
        if np.isfinite(row.threshold):
            curve = told.curves[row.category_id]
            assert row.f1 == pytest.approx(100 * curve.f1.max())
            assert row.threshold == curve.score[curve.f1.argmax()]


def test_diagnosis_of_nothing_found():
    told = diagnose(make_truth((1, CAT, BOX)), make_found())
    assert told.summary["AP"] == 0
    assert [e.missed for e in told.worst] == [(1,)]
    assert np.isnan(told.calibration.ece) and told.confusion.matrix.sum() == 1


def test_comparison_has_a_sign_and_repeats(make_case):
    truth, found = make_case(2, images=30)
    exact = [
        from_json_dicts([{**a, "score": 0.9} for a in truth.by_image.get(i, ())], i) for i in truth.images
    ]
    there = {d.name: d for d in compare_models(truth, found, exact, samples=60)}
    back = {d.name: d for d in compare_models(truth, exact, found, samples=60)}
    ap = there["AP"]
    assert ap.delta > 0 and ap.low > 0 and ap.probability_better == 1
    assert ap.low <= ap.delta <= ap.high
    assert back["AP"].delta == pytest.approx(-ap.delta) and back["AP"].probability_better == 0
    assert back["AP"].low == pytest.approx(-ap.high)
    assert ap.a == pytest.approx(diagnose(truth, found).summary["AP"])
    again = compare_models(truth, found, exact, samples=60)
    assert json.dumps([vars(d) for d in again]) == json.dumps([vars(d) for d in there.values()])
    other = compare_models(truth, found, exact, samples=60, seed=1)
    assert [d.low for d in other] != [d.low for d in again]
    same = {d.name: d for d in compare_models(truth, found, found, samples=20)}["AP"]
    assert (same.delta, same.low, same.high) == (0, 0, 0)
