"""The pictures that tests draw: every kind of prediction, at any size; and how like two pictures are."""

from collections.abc import Callable

import numpy as np
import torch
from PIL import Image, ImageFilter

from detectron2.data import Metadata
from detectron2.structures import Boxes, Instances, RotatedBoxes
from detectron2.utils.video_visualizer import VideoVisualizer
from detectron2.utils.visualizer import ColorMode, VisImage, Visualizer

NAMES = ["person", "bicycle", "traffic light", "dog"]


def metadata(names: list[str] = NAMES) -> Metadata:
    return Metadata().set(
        thing_classes=names,
        stuff_classes=["sky", "grass", "road"],
        keypoint_names=["nose", "left_shoulder", "right_shoulder", "left_hip", "right_hip"],
        keypoint_connection_rules=[
            ("left_shoulder", "right_shoulder", (255, 128, 0)),
            ("left_hip", "right_hip", (0, 200, 255)),
        ],
    )


def ground(height: int, width: int) -> np.ndarray:
    """A smooth picture of many colours."""
    ys, xs = np.mgrid[:height, :width]
    waves = [np.sin(6 * xs / width + k) * np.cos(5 * ys / height - k) for k in range(3)]
    return (128 + 90 * np.stack(waves, axis=2)).astype(np.uint8)


def objects(height: int, width: int, count: int = 6, *, masks: bool = False, seed: int = 3) -> Instances:
    """Objects of chance, some of which cross the border of the picture or lie on one another."""
    rng = np.random.default_rng(seed)
    center, half = rng.uniform(0, 1, (count, 2)), rng.uniform(0.04, 0.15, (count, 2))
    corners = np.concatenate([center - half, center + half], axis=1).clip(0, 1) * [
        width,
        height,
        width,
        height,
    ]
    found = Instances((height, width), pred_boxes=Boxes(torch.tensor(corners, dtype=torch.float32)))
    found.scores = torch.linspace(0.99, 0.5, count)
    found.pred_classes = torch.arange(count) % len(NAMES)
    if masks:
        ys, xs = np.mgrid[:height, :width] + 0.5
        found.pred_masks = torch.tensor(
            np.stack(
                [
                    ((xs - (a + c) / 2) / max(c - a, 1)) ** 2 + ((ys - (b + d) / 2) / max(d - b, 1)) ** 2
                    < 0.25
                    for a, b, c, d in corners
                ]
            )
        )
    return found


def _skeletons(boxes: torch.Tensor) -> torch.Tensor:
    places = torch.tensor([[0.5, 0.1], [0.7, 0.3], [0.3, 0.3], [0.6, 0.9], [0.4, 0.9]])
    xy = boxes[:, None, :2] + places * (boxes[:, None, 2:] - boxes[:, None, :2])
    return torch.cat([xy, torch.ones(*xy.shape[:2], 1)], dim=2)


def draw_boxes(h: int, w: int) -> VisImage:
    return Visualizer(ground(h, w), metadata()).draw_instance_predictions(objects(h, w))


def draw_masks(h: int, w: int) -> VisImage:
    return Visualizer(ground(h, w), metadata()).draw_instance_predictions(objects(h, w, masks=True))


def draw_grey(h: int, w: int) -> VisImage:
    canvas = Visualizer(ground(h, w), metadata(), instance_mode=ColorMode.IMAGE_BW)
    return canvas.draw_instance_predictions(objects(h, w, masks=True))


def draw_classes(h: int, w: int) -> VisImage:
    canvas = Visualizer(ground(h, w), metadata(), instance_mode=ColorMode.SEGMENTATION)
    return canvas.draw_instance_predictions(objects(h, w, masks=True))


def draw_keypoints(h: int, w: int) -> VisImage:
    found = objects(h, w)
    found.pred_keypoints = _skeletons(found.pred_boxes.tensor)
    return Visualizer(ground(h, w), metadata()).draw_instance_predictions(found)


def draw_rotated(h: int, w: int) -> VisImage:
    boxes = [
        [0.3, 0.3, 0.3, 0.15, 30],
        [0.7, 0.3, 0.25, 0.1, -70],
        [0.5, 0.7, 0.4, 0.2, 100],
        [0.05, 0.9, 0.2, 0.1, 45],
    ]
    found = Instances((h, w), pred_boxes=RotatedBoxes(torch.tensor(boxes) * torch.tensor([w, h, w, h, 1.0])))
    found.scores, found.pred_classes = torch.full((4,), 0.9), torch.arange(4)
    return Visualizer(ground(h, w), metadata()).draw_instance_predictions(found)


def _regions(h: int, w: int) -> np.ndarray:
    regions = np.zeros((h, w), dtype=np.int64)
    regions[h // 3 :], regions[h // 2 :, w // 2 :] = 1, 2
    return regions


def draw_semantic(h: int, w: int) -> VisImage:
    return Visualizer(ground(h, w), metadata()).draw_sem_seg(torch.tensor(_regions(h, w)))


def draw_panoptic(h: int, w: int) -> VisImage:
    ids = _regions(h, w) + 1
    ys, xs = np.mgrid[:h, :w]
    ids[(xs - w * 0.3) ** 2 + (ys - h * 0.5) ** 2 < (h * 0.2) ** 2] = 7
    ids[(xs - w * 0.75) ** 2 + (ys - h * 0.55) ** 2 < (h * 0.15) ** 2] = 8
    infos = [{"id": k + 1, "category_id": k, "isthing": False} for k in range(3)]
    infos += [{"id": k + 7, "category_id": k, "isthing": True, "score": 0.9} for k in range(2)]
    return Visualizer(ground(h, w), metadata()).draw_panoptic_seg(torch.tensor(ids), infos)


def draw_tracks(h: int, w: int) -> VisImage:
    video = VideoVisualizer(metadata(), trail=12)
    for t in range(8):
        boxes = [[0.05 + 0.06 * t, 0.1 + 0.03 * t], [0.8 - 0.05 * t, 0.6]]
        corners = torch.tensor([[x, y, x + 0.15, y + 0.25] for x, y in boxes]) * torch.tensor([w, h, w, h])
        found = Instances((h, w), pred_boxes=Boxes(corners), scores=torch.tensor([0.9, 0.8]), ID=[3, 11])
        found.pred_classes = torch.tensor([0, 1])
        picture = video.draw_instance_predictions(ground(h, w), found)
    return picture


KINDS: dict[str, Callable[[int, int], VisImage]] = {
    "boxes": draw_boxes,
    "masks": draw_masks,
    "grey": draw_grey,
    "classes": draw_classes,
    "keypoints": draw_keypoints,
    "rotated": draw_rotated,
    "semantic": draw_semantic,
    "panoptic": draw_panoptic,
    "tracks": draw_tracks,
}


def difference(a: np.ndarray, b: np.ndarray) -> float:
    """How unlike two pictures look, in [0, 255]: the largest difference after what the eye does not see is blurred.

    Another version of FreeType moves letters by a part of a pixel, which this forgives; a label or a line that is
    missing, elsewhere or of another colour stands out.
    """
    assert a.shape == b.shape
    blurred = [
        np.asarray(Image.fromarray(p).filter(ImageFilter.GaussianBlur(3)), dtype=float) for p in (a, b)
    ]
    return float(np.abs(blurred[0] - blurred[1]).max())
