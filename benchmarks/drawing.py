"""Drawing of boxes with labels against one Matplotlib figure with as many artists; processor time, one thread.

    python benchmarks/drawing.py [--rounds 30] [--size 480 640] [--artists 20]

Both sides start from an array of pixels and end with one. Half of the artists are outlines of boxes, half are texts on
a dark ground. The last rows say what a whole picture costs: masks, boxes and labels of many objects.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import numpy as np
import torch

from detectron2.data import Metadata
from detectron2.structures import Boxes, Instances
from detectron2.visualization import Visualizer

NAMES = ["person", "bicycle", "traffic light", "dog"]


def predictions(height: int, width: int, count: int, masks: bool = False) -> Instances:
    rng = np.random.default_rng(0)
    center, half = rng.uniform(0.1, 0.9, (count, 2)), rng.uniform(0.02, 0.1, (count, 2))
    corners = np.concatenate([center - half, center + half], axis=1) * [width, height, width, height]
    found = Instances((height, width), pred_boxes=Boxes(torch.tensor(corners, dtype=torch.float32)))
    found.scores, found.pred_classes = torch.linspace(0.99, 0.5, count), torch.arange(count) % len(NAMES)
    if masks:
        ys, xs = np.mgrid[:height, :width]
        found.pred_masks = torch.tensor(
            np.stack(
                [
                    ((xs - (a + c) / 2) / (c - a)) ** 2 + ((ys - (b + d) / 2) / (d - b)) ** 2 < 0.25
                    for a, b, c, d in corners
                ]
            )
        )
    return found


def ours(image: np.ndarray, found: Instances) -> np.ndarray:
    metadata = Metadata().set(thing_classes=NAMES)
    return Visualizer(image, metadata).draw_instance_predictions(found).get_image()


def matplotlib(image: np.ndarray, found: Instances) -> np.ndarray:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.patches import Rectangle

    height, width = image.shape[:2]
    figure = Figure(frameon=False)
    figure.set_size_inches((width + 0.01) / figure.dpi, (height + 0.01) / figure.dpi)
    canvas = FigureCanvasAgg(figure)
    axes = figure.add_axes((0.0, 0.0, 1.0, 1.0))
    axes.axis("off")
    axes.imshow(image, extent=(0, width, height, 0), interpolation="nearest")
    ground = {"facecolor": "black", "alpha": 0.8, "pad": 0.7, "edgecolor": "none"}
    for box, score, c in zip(
        found.pred_boxes.tensor.tolist(), found.scores.tolist(), found.pred_classes.tolist()
    ):
        x0, y0, x1, y1 = box
        axes.add_patch(
            Rectangle((x0, y0), x1 - x0, y1 - y0, fill=False, edgecolor="lime", linewidth=2, alpha=0.9)
        )
        axes.text(
            x0, y0, f"{NAMES[c]} {score:.0%}", size=8, color="white", bbox=ground, verticalalignment="top"
        )
    buffer, (w, h) = canvas.print_to_buffer()
    return np.frombuffer(buffer, dtype=np.uint8).reshape(h, w, 4)[:, :, :3].copy()


def milliseconds(draw: Callable[[], np.ndarray], rounds: int) -> float:
    draw()  # fonts are opened once
    times = []
    for _ in range(rounds):
        start = time.process_time()
        draw()
        times.append(time.process_time() - start)
    return float(np.median(times)) * 1e3


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--size", type=int, nargs=2, default=(480, 640), metavar=("H", "W"))
    parser.add_argument("--artists", type=int, default=20)
    args = parser.parse_args()
    torch.set_num_threads(1)
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (*args.size, 3), dtype=np.uint8)
    found = predictions(*args.size, args.artists // 2)
    mine = milliseconds(lambda: ours(image, found), args.rounds)
    theirs = milliseconds(lambda: matplotlib(image, found), args.rounds)
    print(f"{args.artists} artists on {args.size[1]}x{args.size[0]}: ours {mine:.1f} ms, Matplotlib {theirs:.1f} ms, "
          f"{theirs / mine:.1f} times as fast")  # fmt: skip
    for height, width, count, masks in (
        (480, 640, 100, True),
        (1080, 1920, 100, True),
        (4000, 4000, 2000, False),
    ):
        image = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
        found = predictions(height, width, count, masks)
        spent = milliseconds(lambda: ours(image, found), max(args.rounds // 10, 1))  # noqa: B023
        print(f"{count} {'masks, ' if masks else ''}boxes and labels on {width}x{height}: {spent:.0f} ms")


if __name__ == "__main__":
    main()
