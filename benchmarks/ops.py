"""Operators against yardsticks at equal counts, in one process: ``python -m benchmarks.ops``.

Each line times ours and the yardstick in turn, several rounds, and compares the best of each (processor time of the
calling thread, so that other work on the machine counts less). Yardsticks are the obvious way to do the same, and for
rotated operators two: plain loops in C (``rotated_loops.c``, left out where there is no ``cc``), which
do the same, and torchvision's compiled axis-aligned operators, which have much less to do.
"""

import argparse
import ctypes
import functools
import json
import multiprocessing
import os
import resource
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
import torchvision
from rich.console import Console
from rich.table import Table
from torch import Tensor

from detectron2.layers import (
    Conv2d,
    ROIAlign,
    ROIAlignRotated,
    batched_nms,
    batched_nms_rotated,
    multi_scale_deformable_attention,
    nms_rotated,
    pairwise_iou_rotated,
    paste_masks_in_image,
)
from detectron2.structures import BitMasks, Boxes, heatmaps_to_keypoints, pairwise_iou

SIZE = (800, 1333)


def seconds(run: Callable[[], Any]) -> float:
    """Processor time of one run."""
    start = time.thread_time()
    run()
    return time.thread_time() - start


class Loops:
    """The C loops, compiled for this run; None where there is no compiler."""

    def __init__(self, library: ctypes.CDLL) -> None:
        self.library = library

    @classmethod
    def build(cls) -> "Loops | None":
        compiler = shutil.which("cc")
        if compiler is None:
            return None
        with tempfile.TemporaryDirectory() as folder:
            made = Path(folder) / "loops.so"
            source = Path(__file__).with_name("rotated_loops.c")
            subprocess.run([compiler, "-O3", "-shared", "-fPIC", "-o", made, source, "-lm"], check=True)
            return cls(ctypes.CDLL(str(made)))

    def _call(self, name: str, *args: Tensor | int | float) -> None:
        kinds = {int: ctypes.c_long, float: ctypes.c_float}
        values = [ctypes.c_void_p(a.data_ptr()) if isinstance(a, Tensor) else kinds[type(a)](a) for a in args]
        getattr(self.library, name)(*values)

    def pairwise(self, a: Tensor, b: Tensor) -> Tensor:
        out = torch.empty(len(a), len(b))
        self._call("pairwise", a, len(a), b, len(b), out)
        return out

    def nms(self, boxes: Tensor, scores: Tensor, threshold: float) -> Tensor:
        order = scores.argsort(descending=True)
        ranked, standing = boxes[order].contiguous(), torch.empty(len(boxes), dtype=torch.uint8)
        self._call("nms", ranked, len(ranked), threshold, standing)
        return order[standing.bool()]

    def align(self, x: Tensor, rois: Tensor, bins: int, scale: float, ratio: int) -> Tensor:
        """For one image; rois [R, 6] as in the layer."""
        boxes = (rois[:, 1:] * torch.tensor([scale] * 4 + [1.0])).contiguous()
        out = torch.empty(len(rois), x.shape[1], bins, bins)
        self._call("align", x, *x.shape[1:], boxes, len(rois), bins, ratio, out)
        return out


def peak_mib(run: Callable[[], Any]) -> float:
    """Resident memory that ``run`` adds at its highest, in MiB; measured in a child process, whose memory is fresh."""
    near, far = multiprocessing.get_context("fork").Pipe(duplex=False)
    child = os.fork()
    if child == 0:
        before = int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
        run()
        far.send((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before) / 2**20)
        os._exit(0)
    os.waitpid(child, 0)
    return float(near.recv())


def boxes(count: int, smallest: float = 16, largest: float = 400) -> Tensor:
    """XYXY boxes of log-uniform sides inside the image."""
    side = smallest * (largest / smallest) ** torch.rand(count, 2)
    near = torch.rand(count, 2) * (torch.tensor([SIZE[1], SIZE[0]]) - side)
    return torch.cat([near, near + side], 1)


def rotated(count: int) -> Tensor:
    """Rotated boxes of the same sides."""
    b = boxes(count)
    return torch.cat([(b[:, :2] + b[:, 2:]) / 2, b[:, 2:] - b[:, :2], torch.rand(count, 1) * 360 - 180], 1)


def paste_one_by_one(masks: Tensor, where: Tensor) -> Tensor:
    """One grid sample over the full image for each mask."""
    h, w = SIZE
    out = torch.zeros(len(masks), h, w, dtype=torch.bool)
    y, x = torch.arange(h) + 0.5, torch.arange(w) + 0.5
    for i, (x0, y0, x1, y1) in enumerate(where.tolist()):
        v, u = (y - y0) / (y1 - y0) * 2 - 1, (x - x0) / (x1 - x0) * 2 - 1
        grid = torch.stack([u.expand(h, w), v[:, None].expand(h, w)], -1)[None]
        out[i] = F.grid_sample(masks[i][None, None], grid, align_corners=False)[0, 0] >= 0.5
    return out


def keypoints_one_by_one(maps: Tensor, rois: Tensor) -> Tensor:
    """One bicubic resize for each region."""
    found = []
    for m, (x0, y0, x1, y1) in zip(maps, rois.tolist()):
        size = (int(-(-(y1 - y0) // 1)), int(-(-(x1 - x0) // 1)))
        full = F.interpolate(m[None], size=size, mode="bicubic", align_corners=False)[0]
        found.append(full.flatten(1).max(1).indices)
    return torch.stack(found)


def attention_inputs(
    height: int = 800, width: int = 1333
) -> tuple[list[tuple[int, int]], Tensor, Tensor, Tensor]:
    """What an encoder over strides 8, 16, 32 asks deformable attention for: every pixel looks around itself."""
    shapes = [(-(-height // s), -(-width // s)) for s in (32, 16, 8)]
    sides = torch.tensor(shapes, dtype=torch.float32).flip(1)[:, None]
    centres = torch.cat(
        [torch.cartesian_prod((torch.arange(h) + 0.5) / h, (torch.arange(w) + 0.5) / w) for h, w in shapes]
    )
    pixels = len(centres)
    points = centres.flip(1)[None, :, None, None, None] + 2 * torch.randn(1, pixels, 8, 3, 4, 2) / sides
    return shapes, torch.randn(1, pixels, 8, 32), points, torch.rand(1, pixels, 8, 3, 4)


def attend_by_level(shapes: list[tuple[int, int]], value: Tensor, points: Tensor, weights: Tensor) -> Tensor:
    """One grid sample for each level, then the sum over all samples."""
    n, _, heads, dim = value.shape
    q, samples, start = points.shape[1], [], 0
    for i, (h, w) in enumerate(shapes):
        maps = value[:, start : start + h * w].permute(0, 2, 3, 1).reshape(n * heads, dim, h, w)
        start += h * w
        grid = (2 * points[:, :, :, i] - 1).transpose(1, 2).flatten(0, 1)
        samples.append(F.grid_sample(maps, grid, align_corners=False))
    weights = weights.transpose(1, 2).reshape(n * heads, 1, q, -1)
    return (torch.cat(samples, -1) * weights).sum(-1).view(n, heads * dim, q).transpose(1, 2)


def compare(rounds: int) -> list[dict[str, Any]]:
    """Times of ours and of each yardstick."""
    torch.manual_seed(0)
    rows = []
    loops = Loops.build()

    def row(name: str, ours: Callable[[], Any], yardstick: str, theirs: Callable[[], Any]) -> None:
        times = [(seconds(ours), seconds(theirs)) for _ in range(rounds + 1)]
        a, b = (min(side) for side in zip(*times[1:]))  # the first one warms up
        rows.append(
            {"operator": name, "ms": 1e3 * a, "yardstick": yardstick, "yardstick_ms": 1e3 * b, "ratio": b / a}
        )

    masks, where = torch.rand(100, 28, 28), boxes(100)
    row(
        "paste 100 masks, 800x1333",
        lambda: paste_masks_in_image(masks, where, SIZE),
        "full-image grid_sample per mask",
        lambda: paste_one_by_one(masks, where),
    )
    r1, r2, b1, b2 = rotated(1000), rotated(200), boxes(1000), boxes(200)
    row(
        "rotated IoU, 1000 x 200",
        lambda: pairwise_iou_rotated(r1, r2),
        "torchvision box_iou (upright)",
        lambda: torchvision.ops.box_iou(b1, b2),
    )
    if loops:
        row(
            "rotated IoU, 1000 x 200",
            lambda: pairwise_iou_rotated(r1, r2),
            "loop in C",
            lambda: loops.pairwise(r1, r2),
        )
    r, b, s, c = rotated(2000), boxes(2000), torch.rand(2000), torch.randint(0, 15, (2000,))
    row(
        "rotated NMS, 2000",
        lambda: nms_rotated(r, s, 0.5),
        "torchvision nms (upright)",
        lambda: torchvision.ops.nms(b, s, 0.5),
    )
    if loops:
        row("rotated NMS, 2000", lambda: nms_rotated(r, s, 0.5), "loop in C", lambda: loops.nms(r, s, 0.5))
    row(
        "rotated NMS, 2000 of 15 classes",
        lambda: batched_nms_rotated(r, s, c, 0.5),
        "torchvision batched_nms (upright)",
        lambda: torchvision.ops.batched_nms(b, s, c, 0.5),
    )
    row(
        "NMS, 2000 of 15 classes",
        lambda: batched_nms(b, s, c, 0.5),
        "torchvision batched_nms",
        lambda: torchvision.ops.batched_nms(b, s, c, 0.5),
    )
    x = torch.randn(1, 256, 50, 84)
    rois = torch.cat([torch.zeros(512, 1), rotated(512)], 1)
    flat = torch.cat([torch.zeros(512, 1), boxes(512)], 1)
    if loops:
        row(
            "ROIAlignRotated, 512 x 256 x 7 x 7, sampling 2",
            lambda: ROIAlignRotated((7, 7), 1 / 16, 2)(x, rois),
            "loop in C",
            lambda: loops.align(x, rois, 7, 1 / 16, 2),
        )
    for ratio in (2, 0):
        row(
            f"ROIAlignRotated, 512 x 256 x 7 x 7, sampling {ratio}",
            lambda ratio=ratio: ROIAlignRotated((7, 7), 1 / 16, ratio)(x, rois),
            "torchvision roi_align (upright)",
            lambda ratio=ratio: torchvision.ops.roi_align(x, flat, (7, 7), 1 / 16, ratio, True),
        )

    def backward(pool: Callable[[Tensor], Tensor]) -> None:
        leaf = x.clone().requires_grad_()
        pool(leaf).sum().backward()

    row(
        "the same with backward, sampling 2",
        lambda: backward(lambda leaf: ROIAlignRotated((7, 7), 1 / 16, 2)(leaf, rois)),
        "torchvision roi_align (upright)",
        lambda: backward(lambda leaf: torchvision.ops.roi_align(leaf, flat, (7, 7), 1 / 16, 2, True)),
    )
    row(
        "ROIAlign, 512 x 256 x 7 x 7, with backward",
        lambda: backward(lambda leaf: ROIAlign((7, 7), 1 / 16, 0)(leaf, flat)),
        "torchvision roi_align",
        lambda: backward(lambda leaf: torchvision.ops.roi_align(leaf, flat, (7, 7), 1 / 16, 0, True)),
    )
    shapes, *given = attention_inputs()
    level = "grid_sample per level"
    row(
        "deformable attention, 22,220 queries x 12 points",
        lambda: multi_scale_deformable_attention(given[0], shapes, *given[1:]),
        level,
        lambda: attend_by_level(shapes, *given),
    )

    def train(attend: Callable[..., Tensor], *first: Any) -> None:
        value, points, weights = (t.clone().requires_grad_() for t in given)
        attend(*first, value, points, weights).sum().backward()

    row(
        "the same with backward",
        lambda: train(lambda v, *rest: multi_scale_deformable_attention(v, shapes, *rest)),
        level,
        lambda: train(attend_by_level, shapes),
    )
    for name, images, height, width in (
        ("3x3 convolution, 256 channels, 120x160", 1, 120, 160),
        ("the same, 100 x 14x14", 100, 14, 14),
    ):
        conv = Conv2d(256, 256, 3, padding=1)
        x = torch.randn(images, 256, height, width)
        plain = functools.partial(F.conv2d, x, conv.weight, conv.bias, padding=1)
        row(name, torch.no_grad()(functools.partial(conv, x)), "torch conv2d", torch.no_grad()(plain))
    maps, people = torch.randn(10, 17, 56, 56), boxes(10, 60, 400)
    row(
        "keypoints from 10 x 17 heatmaps",
        lambda: heatmaps_to_keypoints(maps, people),
        "bicubic resize per region",
        lambda: keypoints_one_by_one(maps, people),
    )
    bitmaps = BitMasks(paste_masks_in_image(masks[:32] * 0 + 1, where[:32], SIZE))
    index = torch.arange(32.0)[:, None]
    row(
        "crop and resize 32 bit masks",
        lambda: bitmaps.crop_and_resize(where[:32], 28),
        "roi_align on all as float",
        lambda: torchvision.ops.roi_align(
            bitmaps.tensor[:, None].float(), torch.cat([index, where[:32]], 1), (28, 28), 1.0, 0, True
        ),
    )
    return rows


def memory() -> list[dict[str, Any]]:
    """Highest additional memory, the result included."""
    torch.manual_seed(0)
    many, some = Boxes(boxes(10_000)), Boxes(boxes(2_000))
    r_many, r_some = rotated(10_000), rotated(2_000)
    result = 100 * SIZE[0] * SIZE[1] / 2**20
    shapes, *given = attention_inputs()
    trained = [t.requires_grad_() for t in given]
    whole = torch.tensor([[0.0, 0.0, SIZE[1], SIZE[0]]])
    return [
        {
            "operator": "pairwise IoU, 10,000 x 2,000",
            "MiB": peak_mib(lambda: pairwise_iou(many, some)),
            "result_MiB": 76.3,
        },
        {
            "operator": "rotated IoU, 10,000 x 2,000",
            "MiB": peak_mib(lambda: pairwise_iou_rotated(r_many, r_some)),
            "result_MiB": 76.3,
        },
        {
            "operator": "deformable attention, 22,220 queries x 12 points, with backward",
            "MiB": peak_mib(
                lambda: multi_scale_deformable_attention(trained[0], shapes, *trained[1:]).sum().backward()
            ),
            "result_MiB": 3 * 21.7 + 2 * 16.3,
        },
        {
            "operator": "the same by grid_sample per level",
            "MiB": peak_mib(lambda: attend_by_level(shapes, *trained).sum().backward()),
            "result_MiB": 3 * 21.7 + 2 * 16.3,
        },
        *(
            {
                "operator": f"paste {n} masks as large as the image",
                "MiB": peak_mib(
                    lambda n=n: paste_masks_in_image(torch.rand(n, 28, 28), whole.expand(n, 4), SIZE)
                ),
                "result_MiB": result * n / 100,
            }
            for n in (10, 100)
        ),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="runs of each; the best counts")
    parser.add_argument("--threads", type=int, default=1, help="threads of PyTorch")
    parser.add_argument("--json", type=Path, help="write the figures here, too")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    space = memory()  # first, while little memory is in use
    speed = compare(args.rounds)
    console = Console(width=130)
    table = Table(
        title=f"torch {torch.__version__}, {args.threads} thread(s) of {os.cpu_count()} CPUs, best of {args.rounds}"
    )
    for title in ("operator", "ours, ms", "yardstick", "yardstick, ms", "times as fast"):
        table.add_column(title, justify="left" if title in ("operator", "yardstick") else "right")
    for r in speed:
        table.add_row(
            r["operator"], f"{r['ms']:.2f}", r["yardstick"], f"{r['yardstick_ms']:.2f}", f"{r['ratio']:.2f}"
        )
    console.print(table)
    table = Table(title="memory added at the highest, result included")
    for title in ("operator", "MiB", "of which result"):
        table.add_column(title, justify="left" if title == "operator" else "right")
    for r in space:
        table.add_row(r["operator"], f"{r['MiB']:.0f}", f"{r['result_MiB']:.0f}")
    console.print(table)
    if args.json:
        args.json.write_text(json.dumps({"speed": speed, "memory": space}, indent=1))


if __name__ == "__main__":
    main()
