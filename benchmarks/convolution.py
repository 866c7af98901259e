"""Where Winograd's 3x3 convolution beats torch's on the CPU, forward and in training, by channels and size.

    python benchmarks/convolution.py [--threads 1] [--rounds 3] [--sizes 50x76 ...] [--channels 64 128 ...]

The default sizes are the levels of a picture of 800 x 1216, and 100 maps of mask heads. Both take turns in one process;
the shortest wall and processor times in milliseconds are printed, and their ratio (above 1: Winograd's is faster). What
``winograd_pays`` decides stands beside it, so that a line "no" with ratios above 1, or "yes" below, shows a wrong rule.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from detectron2.layers.winograd import conv3x3, winograd_pays

SIZES = ("1x200x304", "1x100x152", "1x50x76", "1x25x38", "100x14x14")
CHANNELS = ("64", "96", "128", "256", "512", "64x256", "256x64", "128x512")
MOST = 1 << 24  # numbers of a map: larger ones no network has


def shortest(runs: dict[str, Callable[[], object]], rounds: int) -> dict[str, tuple[float, float]]:
    """Return wall and processor milliseconds of each run, the shortest of the rounds after the first."""
    best = {name: (float("inf"), float("inf")) for name in runs}
    for round_ in range(rounds + 1):
        for name, run in runs.items():
            wall, cpu = time.perf_counter(), time.process_time()
            run()
            wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
            if round_:
                best[name] = (min(best[name][0], 1000 * wall), min(best[name][1], 1000 * cpu))
    return best


def step(convolve: Callable[[Tensor, Tensor], Tensor], x: Tensor, weight: Tensor) -> None:
    y = convolve(x, weight)
    torch.autograd.grad(y, (x, weight), y.detach())


def plain(x: Tensor, weight: Tensor) -> Tensor:
    return F.conv2d(x, weight, padding=1)


def measure(shape: tuple[int, int, int], given: int, made: int, rounds: int) -> str:
    n, height, width = shape
    x = torch.randn(n, given, height, width, requires_grad=True)
    conv = nn.Conv2d(given, made, 3, padding=1)
    weight = conv.weight
    cells = []
    for ours, theirs in (
        (lambda: conv3x3(x.detach(), weight.detach()), lambda: plain(x.detach(), weight.detach())),
        (lambda: step(conv3x3, x, weight), lambda: step(plain, x, weight)),
    ):
        found = shortest({"ours": ours, "theirs": theirs}, rounds)
        (wall, cpu), (wall_theirs, cpu_theirs) = found["ours"], found["theirs"]
        cells.append(f"{wall:8.1f} {wall_theirs:8.1f} {wall_theirs / wall:6.2f} {cpu_theirs / cpu:6.2f}")
    used = "yes" if winograd_pays(conv, x.detach()) else "no"
    return f"{n}x{height}x{width}".rjust(12) + f"{given}x{made}".rjust(9) + f"{used:>5s}" + " |".join(cells)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--sizes", nargs="+", default=SIZES, help="images x height x width")
    parser.add_argument("--channels", nargs="+", default=CHANNELS, help="given, or given x made")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    print(
        f"{args.threads} threads; forward and training step: ours ms, torch ms, ratio of wall, of processor time"
    )
    for size in args.sizes:
        n, height, width = (int(side) for side in size.split("x"))
        for pair in args.channels:
            given, made = (int(c) for c in (pair.split("x") * 2)[:2])
            if n * height * width * max(given, made) <= MOST:
                print(measure((n, height, width), given, made, args.rounds), flush=True)


if __name__ == "__main__":
    main()
