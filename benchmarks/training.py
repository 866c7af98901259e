"""What the trainer adds to a training step, and what precision, memory order and compilation save.

    python benchmarks/training.py [overhead] [policies] [--device cpu] [--size 320 480] [--rounds 5] [--threads 1]

`overhead`: a whole `DefaultTrainer`, with the hooks and writers that it has by itself, on a model of as many parameter
tensors and losses as Mask R-CNN whose passes cost next to nothing. Printed is the processor time per iteration outside
forward pass, backward pass and optimizer step, and its share of a step of 100 ms. The data stand ready.

`policies`: one training step of Faster R-CNN R50-FPN, eager in float32 against bfloat16, channels-last and a compiled
backbone. Rounds alternate between the policies in one process; medians of processor time (on CUDA: of time between
events) and their ratio to the first (above 1: faster).
"""

from __future__ import annotations

import argparse
import copy
import logging
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn

from detectron2 import model_zoo
from detectron2.config import get_cfg
from detectron2.engine import DefaultTrainer
from detectron2.engine.model_options import compile_parts
from detectron2.engine.trainer.precision import Precision
from detectron2.modeling import META_ARCH_REGISTRY, build_model
from detectron2.structures import Boxes, Instances
from detectron2.utils.events import EventStorage

TENSORS, LOSSES, IMAGES, WARM_UP = 170, 7, 16, 20
OPTIONS: dict[str, list[Any]] = {
    "as it is": [],
    "with moving average": ["SOLVER.EMA.ENABLED", True],
    "with full-model clipping": [
        "SOLVER.CLIP_GRADIENTS.ENABLED",
        True,
        "SOLVER.CLIP_GRADIENTS.CLIP_TYPE",
        "full_model",
    ],
    "with two batches a step": ["SOLVER.ACCUMULATE_STEPS", 2],
}


@META_ARCH_REGISTRY.register()
class BenchmarkNet(nn.Module):
    """Many small parameters and some losses."""

    def __init__(self, cfg: Any) -> None:
        super().__init__()
        self.weights = nn.ParameterList(nn.Parameter(torch.randn(8)) for _ in range(TENSORS))

    def forward(self, batched_inputs: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        total = torch.stack(tuple(self.weights)).square().mean()
        return {f"loss_{i}": total * (i + 1) for i in range(LOSSES)}


def records(size: tuple[int, int], device: str = "cpu") -> list[dict[str, Any]]:
    """A batch as a loader gives it."""
    height, width = size
    found = []
    for i in range(IMAGES):
        instances = Instances(size)
        instances.gt_boxes = Boxes(torch.tensor([[10.0 + i, 20.0, width * 0.6, height * 0.7]]))
        instances.gt_classes = torch.tensor([i % 5])
        image = torch.randint(0, 255, (3, height, width), dtype=torch.uint8)
        found.append(
            {"image": image, "instances": instances, "height": height, "width": width, "image_id": i}
        )
    return found


def trainer_for(options: list[Any], iterations: int, folder: str) -> DefaultTrainer:
    batch = records((64, 64))

    class Ready(DefaultTrainer):
        @classmethod
        def build_train_loader(cls, cfg: Any) -> Any:
            def endless() -> Iterator[Any]:
                while True:
                    yield batch

            return endless()

    cfg = get_cfg()
    cfg.merge_from_list(
        ["MODEL.META_ARCHITECTURE", "BenchmarkNet", "MODEL.DEVICE", "cpu", "DATASETS.TEST", (), "OUTPUT_DIR", folder,
         "SOLVER.MAX_ITER", iterations + 2 * WARM_UP, "SOLVER.STEPS", (), "SOLVER.CHECKPOINT_PERIOD", 0, *options]
    )  # fmt: skip
    return Ready(cfg)


def overhead(options: list[Any], iterations: int) -> float:
    """Seconds of processor time per iteration that are neither passes nor optimizer.

    The clock itself is too slow to be asked several times an iteration, so it is asked around many of them, with
    the trainer and without.
    """
    with tempfile.TemporaryDirectory() as folder:
        trainer, marks = trainer_for(options, iterations, folder), []
        run_step = trainer.run_step

        def mark() -> None:
            if trainer.iter in (WARM_UP, WARM_UP + iterations):
                marks.append(time.process_time())
            run_step()

        trainer.run_step = mark  # type: ignore[method-assign]
        trainer.train()
        inner, batch = trainer._trainer, records((64, 64))
        for i in range(WARM_UP + iterations):
            if i == WARM_UP:
                start = time.process_time()
            inner.optimizer.zero_grad()
            for _ in range(inner.accumulate_steps):
                sum(inner.model(batch).values()).backward()
            inner.optimizer.step()
        bare = time.process_time() - start
    return (marks[1] - marks[0] - bare) / iterations


def show_overhead(rounds: int) -> None:
    print(
        f"{TENSORS} parameter tensors, {LOSSES} losses, {IMAGES} images a batch; processor time an iteration"
    )
    found: dict[str, list[float]] = {name: [] for name in OPTIONS}
    for _ in range(rounds):
        for name, options in OPTIONS.items():
            found[name].append(overhead(options, 400))
    for name, seconds in found.items():
        middle = statistics.median(seconds) * 1e3
        print(f"{name:28s} {middle:7.3f} ms   {middle:5.2f} % of 100 ms", flush=True)


POLICIES = (
    "eager float32",
    "bfloat16",
    "channels-last",
    "compiled backbone",
    "bfloat16 + channels-last + compiled",
)


def policy(name: str, model: nn.Module, device: str) -> tuple[nn.Module, Precision]:
    """A copy of the model under a policy."""
    model = copy.deepcopy(model)
    if "channels-last" in name:
        model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    if "compiled" in name:
        compile_parts(model, ["backbone"], "default")
    return model, Precision(torch.bfloat16 if "bfloat16" in name else torch.float32, device)


def step(model: nn.Module, precision: Precision, batch: list[Any], optimizer: torch.optim.Optimizer) -> None:
    with EventStorage(), precision.autocast():
        losses = model(batch)
    optimizer.zero_grad()
    precision.backward(sum(losses.values()))  # type: ignore[arg-type]
    precision.step(optimizer)


def seconds_of(work: Callable[[], None], device: str) -> float:
    if device == "cpu":
        start = time.process_time()
        work()
        return time.process_time() - start
    first, last = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    first.record()
    work()
    last.record()
    torch.cuda.synchronize()
    return first.elapsed_time(last) / 1e3


def show_policies(device: str, size: tuple[int, int], rounds: int) -> None:
    cfg = model_zoo.get_config("COCO-Detection/faster_rcnn_R_50_FPN_1x.yaml")
    cfg.MODEL.DEVICE, cfg.MODEL.WEIGHTS = device, ""
    torch.manual_seed(0)
    base, batch = build_model(cfg).train(), records(size)[:2]
    runs = {}
    for name in POLICIES:
        model, precision = policy(name, base, device)
        optimizer = torch.optim.SGD(model.parameters(), lr=1e-5)
        runs[name] = lambda m=model, p=precision, o=optimizer: step(m, p, batch, o)
        for _ in range(2):  # compilation, and work space
            runs[name]()
    found: dict[str, list[float]] = {name: [] for name in POLICIES}
    for _ in range(rounds):
        for name, work in runs.items():
            found[name].append(seconds_of(work, device))
    print(f"Faster R-CNN R50-FPN on {device}, 2 images of {size[0]}x{size[1]}, one training step")
    reference = statistics.median(found[POLICIES[0]])
    for name, seconds in found.items():
        middle = statistics.median(seconds)
        print(f"{name:38s} {middle * 1e3:9.1f} ms   {reference / middle:5.2f}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "parts", nargs="*", choices=["overhead", "policies"], default=["overhead", "policies"]
    )
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--size", type=int, nargs=2, default=(320, 480), help="height and width")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    logging.disable(logging.WARNING)
    if "overhead" in args.parts:
        show_overhead(args.rounds)
    if "policies" in args.parts:
        show_policies(args.device, tuple(args.size), args.rounds)


if __name__ == "__main__":
    main()
