"""Exported files beside their models; processor time, one thread.

    python benchmarks/export.py [--models mask retinanet] [--forms onnx openvino-int8] [--size 320 480] [--rounds 5]

The models are those of `fastest.py`: of the zoo, with ResNet-50 and FPN, and random weights, scaled so that scores differ and as
many proposals and objects as a trained model has pass through its heads. Files are for pictures of one size. A form is
a format and its precision. Each file has been proved to give what the model gives on the picture, which both sides then take
by turns; files of 8 bits are timed without a proof, since that is the AP of a trained run. "speedup" is the median of the model's
times divided by that of the file's. Formats whose packages are missing are left out.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from fastest import MODELS, backend_of, first_scene

from detectron2.export import ExportedModel, ExportOptions, export_model, load_exported, writing

FORMS = ("pt2", "onnx", "onnx-int8", "openvino", "openvino-int8", "torchscript", "aoti")


def undecided(path: Any) -> dict[str, float | None]:
    """Give no figures: with a judge, single objects of files of 8 bits may differ."""
    return {}


def seconds(model: torch.nn.Module, file: ExportedModel, image: Any, rounds: int) -> tuple[float, float]:
    """Medians of the processor time of both."""
    item = {"image": file.resize(image)}

    def eager() -> Any:
        with torch.no_grad():
            return model([item])

    times: dict[str, list[float]] = {"eager": [], "file": []}
    for index in range(rounds + 2):
        for name, run in (("eager", eager), ("file", lambda: file.predict([item]))):
            start = time.process_time()
            run()
            if index > 1:  # two rounds warm up: TorchScript compiles in its second
                times[name].append(time.process_time() - start)
    return statistics.median(times["eager"]), statistics.median(times["file"])


def row_of(model: torch.nn.Module, form: str, image: Any, rounds: int, graphs: dict[Any, Any]) -> dict[str, Any]:  # fmt: skip
    """Export to one form and time the file."""
    to, _, precision = form.partition("-")
    options = ExportOptions(to, precision or "fp32", static=image.shape[:2])
    one_scene = mock.patch.object(writing, "make_scenes", partial(first_scene, writing.make_scenes))
    with tempfile.TemporaryDirectory() as folder, one_scene:
        try:
            made = export_model(
                model, Path(folder) / form, [image], options=options, graphs=graphs, judge=undecided
            )
        except (ImportError, RuntimeError) as error:
            return {"left out": str(error)[:300]}
        eager, file = seconds(model, load_exported(made.path), image, rounds)
    return {"eager": round(eager, 3), "file": round(file, 3), "speedup": round(eager / file, 2)}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--forms", nargs="+", choices=FORMS, default=list(FORMS))
    parser.add_argument("--size", type=int, nargs=2, default=(320, 480), metavar=("HEIGHT", "WIDTH"))
    parser.add_argument("--objects", type=int, default=20, help="found in the picture")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    image = np.random.default_rng(0).integers(0, 256, (*args.size, 3), dtype=np.uint8)
    for name in args.models:
        with tempfile.TemporaryDirectory() as folder:
            model, graphs = backend_of(name, Path(folder), image, args.objects).model, dict[Any, Any]()
        for form in args.forms:
            found = row_of(model, form, image, args.rounds, graphs)
            print(json.dumps({"model": name, "form": form, "size": list(args.size), **found}), flush=True)


if __name__ == "__main__":
    main()
