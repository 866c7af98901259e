"""Writing a model to a file, and proving the file before it appears."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from detectron2.modeling.tensor_inference import TensorInference
from detectron2.utils.errors import BadState, BadValue
from detectron2.utils.suggest import did_you_mean

from .exported import ExportedModel, load_exported
from .formats import FORMATS, Format, Graph, Metadata, with_half_backbone
from .metadata import describe_model, side_limits, versions
from .proof import BY_AP, Agreement, make_scenes, prove

__all__ = ["ExportOptions", "export_model"]

Judge = Callable[[ExportedModel | None], Mapping[str, float | None]]

# Outputs that ExportedModel makes results of.
_KNOWN = {"boxes", "scores", "classes", "valid", "masks", "keypoints", "logits", "sem_seg"}
_KNOWN |= {"panoptic_seg", "thing_segments", "stuff_segments"}
_KNOWN |= {"pred_masks", "query_classes", "query_segments"}


@dataclass(frozen=True)
class ExportOptions:
    """How a file is written.

    Attributes:
        to: format: "pt2", "onnx", "openvino", "torchscript" or "aoti".
        precision: "fp32"; "fp16" or "bf16" for half precision; "int8" for 8 bits.
        static: height and width that are fixed in the file; None for any.
        batch: number of images that the file takes at once; None for one, without a leading axis.
    """

    to: str = "onnx"
    precision: str = "fp32"
    static: tuple[int, int] | None = None
    batch: int | None = None

    def format(self) -> Format:
        """Return the format, after a check that it allows the rest.

        Raises:
            ValueError: it does not, or is unknown.
        """
        if self.to not in FORMATS:
            raise BadValue(
                f"format {self.to!r} is not one of {', '.join(FORMATS)}. {did_you_mean(self.to, list(FORMATS))}"
            )
        kind = FORMATS[self.to]
        if self.precision not in kind.precisions:
            others = [name for name, other in FORMATS.items() if self.precision in other.precisions]
            hint = f"; {self.precision} can be written as {', '.join(others)}" if others else ""
            raise BadValue(
                f"{self.to} takes the precisions {', '.join(kind.precisions)}, got {self.precision!r}{hint}"
            )
        if self.static is not None and min(self.static) < 1:
            raise BadValue(f"static must be a height and a width of 1 pixel or more, got {self.static}")
        if self.batch is not None and self.batch < 1:
            raise BadValue(f"batch must be 1 or more, got {self.batch}")
        if self.batch is not None and not kind.batched:
            raise BadValue(f"{self.to} takes one image at a time; leave batch out, or take another format")
        return kind


def export_model(
    model: nn.Module,
    path: str | os.PathLike[str],
    pictures: Sequence[npt.NDArray[Any]],
    *,
    options: ExportOptions = ExportOptions(),
    metadata: Mapping[str, Any] | None = None,
    names: Sequence[str] = (),
    judge: Judge | None = None,
    max_ap_drop: float = 2.0,
    graphs: dict[Any, Graph] | None = None,
) -> Agreement:
    """Write a model to a file that gives what the model gives, and prove that on pictures.

    The file, files that belong to it, and ``PATH.agreement.md`` appear together, or none of them.

    Args:
        model: GeneralizedRCNN, ProposalNetwork, RetinaNet, FCOS, SemanticSegmentor, PanopticFPN, or another with the
            methods of :class:`detectron2.modeling.tensor_inference.TensorInference`. It is put into evaluation mode.
        path: of the file; its name gets the suffix of the format if it has another.
        pictures: arrays (H, W, C) with channels in the order of the model, best those of its validation data.
        options: format, precision, sizes.
        metadata: more to be kept in the file, such as ``classes``, ``input_format``, ``min_size`` and ``max_size``.
        names: of the pictures, for the table.
        judge: evaluates the model (given None) or the file, and returns figures in [0, 1] by name, for the table. Of int8
            they alone decide, since 8 bits move single objects.
        max_ap_drop: points of 100 that AP, PQ and mIoU of ``judge`` may fall by.
        graphs: filled with the graph that is made, and looked up first: for one model in several formats, since making
            a graph takes minutes.

    Returns:
        How far the file agrees with the model.

    Raises:
        TypeError: a part of the model has no tensor form; the text names it.
        ValueError: options that do not go together, or no pictures.
        RuntimeError: the file does not agree with the model; the text says where. No file is left.
    """
    kind = options.format()
    if not len(pictures):
        raise BadValue("an export is proved on pictures: name at least one")
    TensorInference(model)
    device = next(model.parameters()).device
    if device.type != "cpu":
        raise BadValue(f"models are exported on the CPU, this one is on {device}: call model.cpu() first")
    path = _with_suffix(Path(path), kind)
    path.parent.mkdir(parents=True, exist_ok=True)
    about = _describe(model, options, kind, metadata or {})
    with tempfile.TemporaryDirectory(prefix=".export-", dir=path.parent) as folder:
        written = Path(folder) / path.name
        scenes = make_scenes(pictures, ExportedModel(_nothing, about), names)
        graph = _graph(model, kind, about, options, [s.image for s in scenes if not s.blank], graphs)
        about["outputs"] = graph.shapes
        kind.write(graph, written, about, options.precision)
        by_ap = BY_AP if judge is not None and options.precision == "int8" else None
        agreement = prove(model, load_exported(written), scenes, path, by_ap)
        agreement.max_ap_drop = max_ap_drop
        if judge is not None and not agreement.problems:
            before, after = judge(None), judge(load_exported(written))
            agreement.figures = {name: (value, after.get(name)) for name, value in before.items()}
        if agreement.problems:
            raise BadState(_refusal(path, agreement.problems))
        written.with_name(path.name + ".agreement.md").write_text(agreement.table(), encoding="utf-8")
        for file in sorted(Path(folder).iterdir()):
            os.replace(file, path.parent / file.name)
    return agreement


def _nothing(image: Tensor) -> dict[str, Tensor]:
    return {}


def _with_suffix(path: Path, kind: Format) -> Path:
    return path if path.name.endswith(kind.suffix) else path.with_name(path.name + kind.suffix)


def _describe(model: nn.Module, options: ExportOptions, kind: Format, more: Mapping[str, Any]) -> Metadata:
    about = {
        "input_format": "BGR",
        "min_size": None,
        "max_size": None,
        "classes": [],
        **describe_model(model),
        **more,
    }
    sides = None if options.static else side_limits(model, about["max_size"])
    return {
        **about,
        "format": kind.name,
        "precision": options.precision,
        "static": list(options.static) if options.static else None,
        "batch": options.batch,
        "sides": list(sides) if sides else None,
        "versions": versions(),
    }


def _graph(
    model: nn.Module,
    kind: Format,
    about: Metadata,
    options: ExportOptions,
    pictures: Sequence[Tensor],
    graphs: dict[Any, Graph] | None,
) -> Graph:
    """Return the graph of a model in the precision that a format wants."""
    halves = kind.halves_backbone(options.precision)
    key = (id(model), options.precision if halves else "fp32", options.static, options.batch)
    if graphs is not None and key in graphs:
        return graphs[key]
    sides = tuple(about["sides"]) if about["sides"] else None
    graph = Graph(
        with_half_backbone(model, options.precision) if halves else model,
        _batched(_example(about), options.batch),
        sides,
        [_batched(p, options.batch) for p in pictures if sides or p.shape == pictures[0].shape],
    )
    unknown = sorted(set(graph.names) - _KNOWN)
    if unknown:
        raise BadValue(
            f"{type(model).__name__} has the outputs {', '.join(unknown)}, of which no results can be made outside of "
            "it; detectron2.export.export_program exports it as a graph of your own"
        )
    if graphs is not None:
        graphs[key] = graph
    return graph


def _example(about: Metadata) -> Tensor:
    """Return an image of a size that no size within the model happens to have."""
    channels = len(about["pixel_mean"] or ()) or 3
    if about["static"]:
        height, width = about["static"]
    else:
        low, high = about["sides"]
        height, width = min(low + 67, high), min(low + 31, high - 1)
    generator = np.random.default_rng(0)
    return torch.from_numpy(generator.integers(0, 256, (channels, height, width)).astype(np.float32))


def _batched(image: Tensor, batch: int | None) -> Tensor:
    return image if batch is None else image[None].repeat(batch, 1, 1, 1)


def _refusal(path: Path, problems: Sequence[str]) -> str:
    more = f"\n… and {len(problems) - 8} more" if len(problems) > 8 else ""
    lines = "\n".join(f"  {problem}" for problem in problems[:8])
    return f"{path} was not written, since it does not give what the model gives:\n{lines}{more}"
