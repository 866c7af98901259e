"""One predictor for every kind of model and picture."""

from __future__ import annotations

import base64
import html
import logging
from collections import Counter
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any, NamedTuple, overload

import numpy as np
import numpy.typing as npt

from detectron2.data import Metadata
from detectron2.engine.run_config import run_config
from detectron2.export import is_exported
from detectron2.structures.exchange import table_html
from detectron2.structures.types import ModelOutput
from detectron2.utils.errors import BadValue, UserError
from detectron2.visualization import VisImage

from .augmented import augmented_model
from .backends import Backend, Prepared, TorchBackend
from .batching import batched, in_batches, read_ahead
from .columns import Columns, pictures_of, result_columns
from .drawing import draw_outputs
from .exported import ExportedBackend
from .fastest import Way, fastest_backend
from .inputs import ChannelOrder, Picture, check_order, is_several, to_rgb
from .models import ModelName, choose_model
from .selection import class_indices, on_cpu, select
from .sources import Frame, frames, plural_name

__all__ = ["Prediction", "PredictionStream", "Predictor"]

logger = logging.getLogger(__name__)

_BLANK = np.zeros(
    (64, 64, 3), np.uint8
)  # shows the columns of an empty batch, which must be those of all others
_BATCHES_AHEAD = 2  # prepared by the reading thread while the model runs


@dataclass(frozen=True)
class Prediction:
    """What was found in one picture of a stream.

    Attributes:
        source: path, URL, camera, or "picture 3" for the fourth picture in memory.
        image: ``(H, W, 3)`` in RGB order.
        outputs: of the model, on the CPU, as Detectron2 gives them.
        frame: number of the frame in a video, from 0; None for pictures.
        time: seconds since the start of the video; None for pictures.
        metadata: names and colours of the classes.
    """

    source: str
    image: npt.NDArray[Any]
    outputs: ModelOutput
    frame: int | None = None
    time: float | None = None
    metadata: Metadata = field(default_factory=Metadata, repr=False, compare=False)

    def draw(self, scale: float = 1.0) -> VisImage:
        """Draw everything that was found; the drawing shows itself in a notebook."""
        return draw_outputs(self.image, self.outputs, self.metadata, scale)

    def _repr_html_(self) -> str:
        """Show the drawing and a table of the instances in a notebook."""
        width, height = (f"{v}px" for v in self.image.shape[1::-1])
        png = base64.b64encode(self.draw()._repr_png_()).decode("ascii")
        picture = f'<img style="max-width:{width};max-height:{height}" src="data:image/png;base64,{png}"/>'
        instances = self.outputs.get("instances")
        table = "" if instances is None else table_html(instances, self.metadata.get("thing_classes"))
        return f"<div><p>{html.escape(self.source)}</p>{picture}{table}</div>"


class _Ready(NamedTuple):
    frame: Frame
    prepared: Prepared


class Predictor:
    """Predicts for pictures, videos and cameras, with a model of any kind.

    An object may be used by several threads at once, and pickled: it takes its weights along.

    Args:
        model: folder of a run, name in the model zoo, config file, config of either kind, or a file that
            ``detectron2 export`` wrote.
        weights: "best" or "final" of a run; a file or URL; None for the best of a run, the published ones of a zoo name,
            or those that the config names.
        scores: lowest score of an instance; None for the model's own threshold, below which nothing is ever found.
        classes: names or indices of the classes to keep; None for all.
        device: device name; None for the best there is, or the one that a given config object names.
        precision: "float32", "float16" or "bfloat16".
        compile: compile the backbone by ``torch.compile``; worth its time for many pictures of few sizes.
        batch_size: pictures of equal size that run together, at most.
        input_format: channel order of arrays and tensors, "RGB" or "BGR"; files and Pillow images know their own.

    Attributes:
        metadata: names and colours of the classes.
        backend: what computes; its ``model`` is the module.

    Raises:
        UserError: if there is no such model, no weights for it, or weights that leave a part of it at random.
        DeviceError: if this machine lacks the device.
        ValueError: if an argument has a value that it cannot have.

    Example::

        predictor = Predictor("mask_rcnn_R_50_FPN_3x", scores=0.7)
        outputs = predictor("photo.jpg")
        for found in predictor.stream(["photos/", "clip.mp4"]):
            found.draw().save("drawn.jpg")
    """

    def __init__(
        self, model: ModelName, *, weights: str | None = None, scores: float | None = 0.5,
        classes: Iterable[str | int] | None = None, device: str | None = None, precision: str = "float32",
        compile: bool = False, batch_size: int = 1, input_format: ChannelOrder = "BGR",
    ) -> None:  # fmt: skip
        if batch_size < 1:
            raise BadValue(f"batch_size must be at least 1, got {batch_size}")
        if scores is not None and not 0 <= scores <= 1:
            raise BadValue(f"scores, the lowest score of an instance, must lie in [0, 1], got {scores}")
        self.input_format = check_order(input_format)
        self.batch_size = batch_size
        self.scores = scores
        self.backend: Backend
        if is_exported(model):
            self.backend = ExportedBackend(model, weights, device, precision, compile)
        else:
            self.backend = TorchBackend(choose_model(model, weights, device), precision, compile)
        self.metadata = self.backend.metadata
        self.classes = class_indices(classes, self.metadata)

    # -- pictures at hand ---------------------------------------------------------------------

    @overload
    def __call__(self, pictures: Picture) -> ModelOutput: ...  # type: ignore[overload-overlap]
    @overload
    def __call__(self, pictures: Mapping[str, Any]) -> Columns: ...
    @overload
    def __call__(self, pictures: Sequence[Picture]) -> list[ModelOutput]: ...
    def __call__(self, pictures: Any) -> Any:
        """Predict for one picture, for several, or for a batch of columns.

        Args:
            pictures: a path or URL, the bytes of an image file, a Pillow image, an array ``(H, W[, C])`` or a tensor
                ``(C, H, W)`` with values in [0, 255]; a sequence, array or tensor of these; or a dict of arrays with
                a column "image", "bytes" or "path", as Ray Data, Spark and Dask hand it on.

        Returns:
            For one picture a dict in Detectron2's format, such as ``{"instances": Instances}``, in the coordinates of the
            picture and on the model's device; for several a list of these; for columns see :func:`result_columns`.

        Raises:
            OSError, ValueError: if a picture cannot be read, or a name stands for several pictures; see :meth:`stream`.
        """
        if isinstance(pictures, Mapping):
            given = pictures_of(pictures)
            found = self._predict(given or [_BLANK])
            columns = result_columns(pictures, [on_cpu(output) for output in found], self.metadata)
            return columns if given else {name: values[:0] for name, values in columns.items()}
        return self._predict(list(pictures)) if is_several(pictures) else self._predict([pictures])[0]

    def _predict(self, pictures: Sequence[Picture]) -> list[ModelOutput]:
        prepared = [self._prepare(picture) for picture in pictures]
        outputs: list[ModelOutput] = [{} for _ in prepared]
        for positions in batched([p.shape for p in prepared], self.batch_size):
            for position, output in zip(positions, self.run_prepared([prepared[k] for k in positions])):
                outputs[position] = output
        return outputs

    def _prepare(self, picture: Picture) -> Prepared:
        if isinstance(picture, str) and plural_name(picture):
            raise BadValue(
                f"{picture} is {plural_name(picture)}: iterate over predictor.stream({picture!r}) to predict for all"
            )
        return self.backend.prepare(to_rgb(picture, self.input_format))

    def compare_orders(self, pictures: Sequence[Picture]) -> dict[str, float]:
        """Compare how sure the model is of arrays or tensors, read as BGR and as RGB.

        Swapped channels cannot be seen in a picture, but a trained model is mostly surer of the right ones. A few dozen
        pictures with objects are enough.

        Args:
            pictures: arrays or tensors.

        Returns:
            For "BGR" and "RGB" the sum of the scores of all instances of at least 0.5.
        """
        sums = {}
        for order in ("BGR", "RGB"):
            prepared = [self.backend.prepare(to_rgb(picture, order)) for picture in pictures]
            found = [self.backend.run([p])[0] for p in prepared]
            scores = [output["instances"].scores for output in found if "instances" in output]
            sums[order] = float(sum(s[s >= 0.5].sum().item() for s in scores))
        return sums

    def speed_up(self, pictures: Sequence[Picture]) -> list[Way]:
        """Take the fastest way to run the model on this machine's CPU that gives the same results.

        A measurement of minutes logs each way: eager, channels-last, compiled, and files for ONNX Runtime, OpenVINO and
        ``torch.export``, if these are installed. What wins is kept beside the run, or in the cache, for the next start.

        Args:
            pictures: a few of those that the model is made for; all ways must agree on them.

        Returns:
            What was measured.

        Raises:
            ValueError: if the model is an exported file, not on the CPU, compiled, or not in float32.
        """
        if not isinstance(self.backend, TorchBackend):
            raise BadValue("an exported file is fixed; give the run or config that it was made from")
        arrays = [to_rgb(picture, self.input_format) for picture in pictures]
        self.backend, ways = fastest_backend(self.backend, arrays, scores=self.scores)
        return ways

    def augment(self, sizes: Sequence[int] = ()) -> None:
        """Predict on several sizes of each picture from now on, also mirrored, and merge the results.

        Args:
            sizes: lengths of the shorter side, in pixels; empty for those of the config (``TEST.AUG``).

        Raises:
            UserError: if no merging is defined for such a model, or the model is an exported file.
        """
        if not isinstance(self.backend, TorchBackend):
            raise UserError("an exported file is fixed; give the run or config that it was made from")
        run = run_config(self.backend.cfg)
        self.backend = self.backend.changed(lambda model: augmented_model(run, model, sizes))

    # -- streams ------------------------------------------------------------------------------

    def stream(
        self,
        sources: object,
        *,
        skip: bool = False,
        read_ahead: int | None = None,
        max_frames: int | None = None,
    ) -> PredictionStream:
        """Predict for everything that a source stands for, in order, with a bounded amount of memory.

        A thread reads and prepares pictures while the model runs.

        Args:
            sources: a file, folder, pattern (``"photos/**/*.jpg"``), URL, video, camera (``"camera:0"``), picture, or an
                iterable of these, which may be endless.
            skip: leave out, count and log what cannot be read; else it raises its error.
            read_ahead: prepared pictures that may wait; None for two batches.
            max_frames: frames of each video or camera, at most; None for all.

        Returns:
            An iterator of :class:`Prediction`. Close it, or use it in a ``with`` block, to end early.
        """
        ahead = read_ahead or _BATCHES_AHEAD * self.batch_size
        return PredictionStream(self, sources, skip, ahead, max_frames)

    def run_prepared(self, batch: Sequence[Prepared]) -> list[ModelOutput]:
        """Predict for pictures of equal shape that the backend has prepared, and keep what is wanted."""
        return [select(output, self.scores, self.classes) for output in self.backend.run(batch, self.scores)]


class PredictionStream(Iterator[Prediction]):
    """Predictions in the order of their pictures; made by :meth:`Predictor.stream`.

    Attributes:
        skipped: source, number of the frame (None for a whole source) and reason of what could not be read; the list is
            cut at 1,000 entries.
        num_skipped: sources that could not be read.
        broken_frames: for each video the number of frames that could not be read.
        num_read: pictures and frames that could be read so far.
    """

    _MOST_REASONS = 1000
    _MOST_SAID = 5  # broken frames of one video

    def __init__(
        self, predictor: Predictor, sources: object, skip: bool, ahead: int, max_frames: int | None
    ) -> None:
        self.skipped: list[tuple[str, int | None, str]] = []
        self.broken_frames: Counter[str] = Counter()
        self.num_skipped = 0
        self.num_read = 0
        self._predictor = predictor
        self._iterator = self._iterate(sources, skip, ahead, max_frames)

    def __next__(self) -> Prediction:
        return next(self._iterator)

    def __enter__(self) -> PredictionStream:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the reading thread; files and cameras are closed."""
        self._iterator.close()

    def _iterate(
        self, sources: object, skip: bool, ahead: int, max_frames: int | None
    ) -> Generator[Prediction, None, None]:
        predictor = self._predictor
        found = frames(sources, predictor.input_format, self._broken if skip else None, max_frames)
        with closing(read_ahead(self._prepared(found), ahead)) as ready:
            results = in_batches(
                ready,
                lambda r: r.prepared.shape,
                lambda batch: predictor.run_prepared([r.prepared for r in batch]),
                predictor.batch_size,
            )
            for (frame, _), output in results:
                yield Prediction(
                    frame.source, frame.image, on_cpu(output), frame.index, frame.time, predictor.metadata
                )

    def _prepared(self, found: Generator[Frame, None, None]) -> Iterator[_Ready]:
        with closing(found):
            for frame in found:
                self.num_read += 1
                yield _Ready(frame, self._predictor.backend.prepare(frame.image))

    def _broken(self, source: str, frame: int | None, error: Exception) -> None:
        name = source if frame is None else f"{source}, frame {frame}"
        reason = str(error) if name in str(error) else f"{name} ({error})"
        if frame is None:
            self.num_skipped += 1
        else:
            self.broken_frames[source] += 1
        if self.broken_frames[source] <= self._MOST_SAID:
            logger.warning("Skipped, since it cannot be read: %s", reason)
        if len(self.skipped) < self._MOST_REASONS:
            self.skipped.append((source, frame, str(error)))
