"""Reasons for a low AP: given where they are true, and only there."""

import re

import numpy as np
import pytest

from detectron2.evaluation.coco.detections import from_json_dicts
from detectron2.evaluation.diagnosis.reasons import explain, sample_of

W, H = 320, 240
NAMES = {3: "cat", 7: "dog", 9: "cow"}
BLAMES_CLASSES = ("categor", "thing_dataset_id")
BLAMES_FORMAT = ("interpreted differently", "scaled by")


def objects_of(seed, images=12, each=4, classes=(3, 7, 9), small=True):
    """Ground truth by image id; XYWH boxes."""
    rng = np.random.default_rng(seed)
    truth, number = {}, 0
    for image in range(1, images + 1):
        truth[image] = []
        for _ in range(each):
            number += 1
            size = rng.uniform(20, 60, 2) if small else rng.uniform(120, 200, 2)
            corner = rng.uniform(0, [W - size[0], H - size[1]])
            box = [*corner.tolist(), *size.tolist()]
            truth[image].append(
                {
                    "id": number,
                    "image_id": image,
                    "category_id": int(rng.choice(classes)),
                    "bbox": box,
                    "iscrowd": 0,
                }
            )
    return truth


def say(truth, predict):
    images = {i: {"id": i, "width": W, "height": H} for i in truth}
    found = [from_json_dicts(predict(i, truth[i]), i) for i in truth]
    return explain(images, truth, found, NAMES)


def perfect(image, objects, score=0.9, move=lambda box: box, category=lambda c: c):
    return [
        {
            "image_id": image,
            "category_id": category(a["category_id"]),
            "bbox": list(move(a["bbox"])),
            "score": score,
        }
        for a in objects
    ]


def untrained(seed, boxes=100, classes=(3, 7, 9), highest=0.2):
    """Boxes of usual sizes anywhere, with low scores."""
    rng = np.random.default_rng(seed)

    def predict(image, objects):
        size = rng.uniform(15, 120, (boxes, 2))
        corner = rng.uniform(0, 1, (boxes, 2)) * ([W, H] - size)
        scores = np.sort(rng.uniform(0, highest, boxes))[::-1]
        return [
            {"image_id": image, "category_id": int(rng.choice(classes)), "bbox": [*c, *s], "score": float(v)}
            for c, s, v in zip(corner.tolist(), size.tolist(), scores)
        ]

    return predict


@pytest.mark.parametrize("seed", [0, 1, *(pytest.param(s, marks=pytest.mark.slow) for s in range(2, 12))])
@pytest.mark.parametrize("small", [True, False], ids=["small", "large"])
@pytest.mark.parametrize("classes", [(3, 7, 9), (3,)], ids=["three", "one"])
def test_a_model_that_has_hardly_learnt_is_blamed_for_nothing_else(seed, small, classes):
    truth = objects_of(seed, classes=classes, small=small)
    reasons = " ".join(say(truth, untrained(seed, classes=classes)))
    assert not any(word in reasons for word in (*BLAMES_CLASSES, *BLAMES_FORMAT)), reasons
    if small:
        assert "hardly trained yet" in reasons


@pytest.mark.parametrize("seed", range(4))
def test_a_model_that_says_one_class_of_everything_is_hardly_trained(seed):
    truth = objects_of(seed, classes=(7, 9))
    reasons = " ".join(say(truth, untrained(seed, classes=(3,))))
    assert "hardly trained yet" in reasons and "thing_dataset_id" not in reasons


@pytest.mark.parametrize("shift", [0.36, 0.43, 0.47, 0.6])
@pytest.mark.parametrize("classes", [(3, 7, 9), (3,)], ids=["three", "one"])
def test_boxes_beside_the_objects(shift, classes):
    move = lambda b: (b[0] + shift * b[2], *b[1:])  # noqa: E731
    (reason,) = say(objects_of(0, classes=classes), lambda i, o: perfect(i, o, move=move))
    assert "too far off" in reason
    told = float(re.search(r"mean best IoU is (\d\.\d+)", reason)[1])
    assert told == pytest.approx((1 - shift) / (1 + shift), abs=0.03)


def test_right_detections_are_not_blamed():
    assert say(objects_of(1), perfect) == []


@pytest.mark.parametrize("cycle", [{3: 7, 7: 9, 9: 3}, {3: 11, 7: 12, 9: 13}, {3: 7, 7: 3, 9: 9}])
def test_exchanged_classes_are_blamed(cycle):
    reasons = say(objects_of(2), lambda i, o: perfect(i, o, category=cycle.get))
    if 9 in cycle and cycle[9] == 9:
        assert reasons == []  # a third is right: AP is not 0
        return
    (reason,) = reasons
    assert "thing_dataset_id_to_contiguous_id" in reason
    assert ("none in common" in reason) == (11 in cycle.values())


def test_classes_by_chance_are_said_but_their_numbers_are_not_blamed():
    rng = np.random.default_rng(0)
    others = {3: (7, 9), 7: (3, 9), 9: (3, 7)}
    wrong = lambda c: int(rng.choice(others[c]))  # noqa: E731
    (reason,) = say(objects_of(3), lambda i, o: perfect(i, o, category=wrong))
    assert "another category" in reason and "thing_dataset_id" not in reason


FORMATS = {
    "scaled by 2": lambda b: [v / 2 for v in b],
    "scaled by 0.4": lambda b: [v * 2.5 for v in b],
    "swapped": lambda b: [b[1], b[0], b[3], b[2]],
    "relative to the image size": lambda b: [b[0] / W, b[1] / H, b[2] / W, b[3] / H],
    "centers": lambda b: [b[0] + b[2] / 2, b[1] + b[3] / 2, b[2], b[3]],
    "corners": lambda b: [b[0], b[1], b[0] + b[2], b[1] + b[3]],
}


@pytest.mark.parametrize("words", FORMATS)
@pytest.mark.parametrize("seed", range(4))
def test_boxes_of_another_format_are_recognised(words, seed):
    reasons = say(objects_of(seed), lambda i, o: perfect(i, o, move=FORMATS[words]))
    assert any(words in r for r in reasons), reasons


def test_images_that_are_exchanged_are_asked_about():
    truth = objects_of(5)
    other = lambda i, o: perfect(i, [{**a} for a in truth[i % len(truth) + 1]])  # noqa: E731
    (reason,) = say(truth, other)
    assert "belong together" in reason and "hardly trained" not in reason


def test_silent_when_unsure():
    """Half of the objects are found, the other half by boxes anywhere: no single reason."""
    half = lambda i, o: [*perfect(i, o[:2]), *untrained(1, boxes=2, highest=0.9)(i, o)]  # noqa: E731
    assert say(objects_of(6), half) == []


def test_crowds_are_neither_wanted_nor_missed():
    truth = objects_of(7)
    for group in truth.values():
        group[0]["iscrowd"] = 1
    assert say(truth, lambda i, o: perfect(i, o[1:])) == []


def test_nothing_detected():
    (reason,) = say(objects_of(8), lambda i, o: [])
    assert "detected nothing" in reason and "hardly trained" in reason


def test_the_sample_keeps_no_masks_which_may_be_large():
    entry = {"image_id": 1, "category_id": 1, "bbox": [0.0, 0.0, 2.0, 2.0], "score": 0.5}
    rle = {"size": [4, 4], "counts": "04<"}
    found = from_json_dicts([{**entry, "segmentation": rle, "keypoints": [1.0, 1.0, 0.5]}], 1)
    assert found.rles is not None
    (kept,) = sample_of([found])
    assert list(kept) == [entry] and kept.tasks == {"bbox"}
