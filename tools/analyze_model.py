#!/usr/bin/env python
"""Flops, activations, parameters and structure of a model.

    python tools/analyze_model.py --tasks flop parameter --config-file CONFIG [--num-inputs 10] [KEY VALUE ...]

A flop is one multiplication with the addition that follows it; see detectron2.utils.analysis.
"""

from __future__ import annotations

import argparse
import itertools
from collections import Counter
from typing import Any

import numpy as np
import torch

from detectron2.engine.run_config import RunConfig, load_run_config
from detectron2.utils.analysis import FlopCountAnalysis, activation_count_operators, parameter_count_table

TASKS = ("flop", "activation", "parameter", "structure")


def setup(args: argparse.Namespace) -> RunConfig:
    """Load the config, of either kind."""
    run = load_run_config(args.config_file, args.opts).in_this_process()
    if not torch.cuda.is_available():
        run.put(device="cpu")
    return run


def inputs_of(run: RunConfig, args: argparse.Namespace) -> list[list[dict[str, Any]]]:
    """Images to run the model on: of the test set, or random ones of a given size."""
    if args.input_size:
        height, width = args.input_size
        image = torch.randint(0, 256, (3, height, width), dtype=torch.uint8)
        return [[{"image": image, "height": height, "width": width}]]
    loader = run.test_loader((*run.dataset_names("test"), "")[0])
    return list(itertools.islice(loader, args.num_inputs))


def main() -> None:
    """Read the arguments and analyse."""
    parser = argparse.ArgumentParser(description="Flops, activations, parameters and structure of a model.")
    parser.add_argument("--config-file", required=True, metavar="FILE", help="YAML or LazyConfig")
    parser.add_argument("--tasks", choices=TASKS, nargs="+", required=True)
    parser.add_argument(
        "-n", "--num-inputs", type=int, default=100, help="images of the test set to average over"
    )
    parser.add_argument(
        "--input-size", type=int, nargs=2, metavar=("H", "W"), help="random image in place of the test set"
    )
    parser.add_argument("--use-fixed-input-size", action="store_true", help="same as --input-size 800 1333")
    parser.add_argument("opts", nargs=argparse.REMAINDER, help="overrides of the config")
    args = parser.parse_args()
    if args.use_fixed_input_size and not args.input_size:
        args.input_size = [800, 1333]
    run = setup(args)
    model = run.model().eval()
    if "structure" in args.tasks:
        print(model)
    if "parameter" in args.tasks:
        print(parameter_count_table(model, max_depth=5))
    if not {"flop", "activation"} & set(args.tasks):
        return
    batches = inputs_of(run, args)
    if "flop" in args.tasks:
        analyses = [FlopCountAnalysis(model, batch) for batch in batches]
        totals = np.array([a.total() for a in analyses]) / 1e9
        operators = sum((a.by_operator() for a in analyses), Counter())
        print(f"GFlops per image: {totals.mean():.2f} +- {totals.std():.2f} on {len(totals)} images")
        print({name: round(value / 1e9 / len(totals), 3) for name, value in operators.most_common()})
    if "activation" in args.tasks:
        counts = [activation_count_operators(model, batch) for batch in batches]
        millions = np.array([sum(c.values()) for c in counts])
        print(f"Million activations per image: {millions.mean():.2f} +- {millions.std():.2f}")


if __name__ == "__main__":
    main()
