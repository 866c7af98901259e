"""``detectron2 predict``: run a model on pictures and videos, draw and write down what it finds."""

import argparse
import logging
import os
from collections.abc import Sequence
from contextlib import closing, suppress
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy.typing as npt
from PIL import Image
from rich.progress import BarColumn, Progress, TaskID, TaskProgressColumn, TextColumn, TimeRemainingColumn

from detectron2.data import DatasetCatalog
from detectron2.data.tiles import TileOptions, any_size, open_windows
from detectron2.engine.run_folder import read_run
from detectron2.model_zoo.listing import find_model
from detectron2.prediction import Prediction, PredictionStream, Predictor
from detectron2.prediction.annotated import AnnotatedVideo
from detectron2.prediction.drawing import draw_outputs
from detectron2.prediction.records import best_first, count_objects, output_record
from detectron2.prediction.sources import camera_number, find_files, frames, is_video
from detectron2.prediction.tracks import DEFAULT_TRACKER, make_tracker
from detectron2.prediction.video import frame_count, frame_rate
from detectron2.prediction.video_writer import check_can_write, video_ending
from detectron2.reports.pictures import picture_scale
from detectron2.utils.file_io.atomic import write_json
from detectron2.utils.file_io.names import distinct_names
from detectron2.utils.image_io import IMAGE_SUFFIXES, READ_ERRORS
from detectron2.utils.logger import setup_logger

from ..console import console
from ..errors import UserError
from ..run.datasets import VAL, register
from ..run.on_ray import PredictionFile, RayEngine, predictions_on_ray, ray_engine
from ..run.recipe import chosen_device
from ..run.shards import shard_option
from ..run.tiles import tile_options
from .predict_tiles import predict_tiles

__all__ = ["run"]

_SAID_EVERY = 200  # frames, where no bar can be drawn
_MEASURED = 3  # pictures that --fast measures on


class _Job(NamedTuple):
    """What there is to do.

    Attributes:
        sources: files, URLs and cameras of this shard.
        tiles: how large images are cut; None for whole ones.
        names: the file that is written for each source, and whether it is a video; with tiles, a name without ending.
        target: the list of predictions to write.
    """

    sources: list[str]
    tiles: TileOptions | None
    names: dict[str, tuple[str, bool]]
    target: Path


def run(args: argparse.Namespace) -> int:
    """Predict, draw, and write ``predictions.json``; what cannot be read is counted and named.

    Raises:
        UserError: two options exclude each other, or there is nothing to predict.
    """
    logger = setup_logger(name="detectron2")
    engine = ray_engine(args)
    device = chosen_device(args.device) if args.device and not engine else None
    if not os.path.isdir(args.model):
        find_model(args.model)  # a wrong name is known before the pictures are looked for
    job = _plan(args)
    if not job.sources and engine is None:
        job.target.parent.mkdir(parents=True, exist_ok=True)
        write_json(job.target, [])
        print(f"no inputs in this shard; see {job.target}")
        return 0
    options = {
        "model": args.model, "weights": args.weights, "scores": args.threshold, "device": device,
        "precision": args.precision, "classes": args.classes.split(",") if args.classes else None,
        "compile": args.compile, "batch_size": args.batch_size,
    }  # fmt: skip
    if engine is not None:
        return _run_on_ray(args, job, engine, options)
    if args.resume:
        raise UserError("--resume goes with --engine ray; without it, --shard cuts the work into parts")
    predictor = Predictor(**options)
    if args.tta is not None:
        predictor.augment(args.tta)
    if args.fast and (pictures := _first_pictures(job.sources, job.tiles)):
        predictor.speed_up(pictures)
    if job.tiles is not None:
        stems = {source: job.names[source][0] for source in job.sources}
        return predict_tiles(predictor, stems, job.target, job.tiles, logger)
    job.target.parent.mkdir(parents=True, exist_ok=True)
    writer = _Writer(predictor, job.target, job.names, args.track, logger)
    stream = predictor.stream(job.sources, skip=True, max_frames=args.limit)
    try:
        with stream:
            for found in stream:
                writer.add(found, stream)
    finally:  # also what was found before Ctrl-C or an error
        writer.close(stream)
    print(writer.summary(stream))
    return int(not writer.records)


def _run_on_ray(args: argparse.Namespace, job: _Job, engine: RayEngine, options: dict[str, Any]) -> int:
    """Predict for pictures on Ray, and write a line for each."""
    refused = [source for source in job.sources if job.names[source][1]]
    refused += [f"--{name}" for name in ("track", "fast") if getattr(args, name)]
    if refused:
        raise UserError(f"--engine ray predicts for single pictures: leave out {refused[0]}")
    if job.tiles is not None:
        raise UserError("--engine ray predicts for whole pictures, without tiles: --tile 0")
    target = job.target.with_suffix(".jsonl")
    file = PredictionFile(target, args.resume)
    try:
        broken = predictions_on_ray(engine, {**options, "device": engine.device}, job.sources, file, args.tta)
    finally:
        file.close()
    for source, reason in broken.items():
        setup_logger(name="detectron2").warning("Skipped, since it cannot be read: %s (%s)", source, reason)
    print(f"{file.objects} objects in {len(file.done)} images, {len(broken)} skipped; see {target}")
    return int(bool(job.sources) and not file.done)


def _plan(args: argparse.Namespace) -> _Job:
    """Find the inputs, and raise what would fail at the end before anything is computed."""
    if args.track and os.path.exists(args.track):  # `--track clip.mp4` names no tracker
        args.inputs, args.track = [*args.inputs, args.track], DEFAULT_TRACKER
    shard = shard_option(args.shard)
    everything = list(dict.fromkeys(_sources(args)))[: args.limit]
    tiles = tile_options(args, _tiles_of_run(args.model, everything))
    # Named among the inputs of all shards, which may write into one folder.
    if tiles is None:
        names = _names(everything)
    else:
        names = {s: (name, False) for s, name in zip(everything, distinct_names(everything, ""))}
    job = _Job(shard.of(everything), tiles, names, Path(args.output) / shard.name("predictions", ".json"))
    if args.tta is not None and args.fast:
        raise UserError("--fast measures the model alone, without --tta: give one of them")
    if args.track is not None:
        make_tracker(args.track, 1, 1)
    for name, moving in (names[source] for source in job.sources):
        if moving:
            check_can_write(job.target.with_name(name))
    return job


def _tiles_of_run(model: str, sources: Sequence[str]) -> dict[str, Any] | None:
    """Return how the images of a run were cut; None for whole images, models that are no run, videos and cameras."""
    moving = any(is_video(s) or "://" in s or camera_number(s) is not None for s in sources)
    return read_run(model).tiles if (Path(model) / "run.json").is_file() and not moving else None


def _sources(args: argparse.Namespace) -> list[str]:
    """Files, URLs and cameras; without any, the pictures that validated the run."""
    if not args.inputs:
        if not (Path(args.model) / "run.json").is_file():
            raise UserError("name at least one picture, video, folder, pattern, URL or camera")
        register(read_run(args.model), train=False)
        return [str(r["file_name"]) for r in DatasetCatalog.get(VAL)]
    found = find_files(args.inputs)
    if not found:
        raise UserError(
            f"no images in {', '.join(args.inputs)}; known endings: {', '.join(sorted(IMAGE_SUFFIXES))}"
        )
    return found


def _first_pictures(sources: Sequence[str], tiles: TileOptions | None) -> list[npt.NDArray[Any]]:
    """Return some of the pictures, or tiles, in BGR order to measure on; of what cannot be read the run will tell."""
    if tiles is not None:
        return _middle_tile(sources, tiles)
    with closing(frames(sources, "BGR", lambda *_: None, None)) as found:
        return [frame.image[:, :, ::-1] for frame in islice(found, _MEASURED)]


def _middle_tile(sources: Sequence[str], tiles: TileOptions) -> list[npt.NDArray[Any]]:
    for source in sources:
        with suppress(*READ_ERRORS, ValueError), any_size(), open_windows(source, tiles.read) as image:
            cells = tiles.grid(image.height, image.width)
            return [image.read(cells[len(cells) // 2])[:, :, ::-1]]
    return []


def _is_moving(source: str) -> bool:
    return is_video(source) or camera_number(source) is not None


def _names(sources: Sequence[str]) -> dict[str, tuple[str, bool]]:
    """Name the file that is written for each source, and say whether it is a video."""
    plain = [source.partition("?")[0].replace(":", "-") if "://" in source else source for source in sources]
    endings = [video_ending(p) if _is_moving(s) else ".jpg" for s, p in zip(sources, plain)]
    stems = [os.path.splitext(p)[0].replace("camera:", "camera-") for p in plain]
    written = distinct_names([stem + ending for stem, ending in zip(stems, endings)])
    return {s: (name, _is_moving(s)) for s, name in zip(sources, written)}


class _Writer:
    """Writes what was found: drawn pictures and videos, and a record of each."""

    def __init__(
        self, predictor: Predictor, target: Path, names: dict[str, tuple[str, bool]], tracker: str | None,
        logger: logging.Logger,
    ) -> None:  # fmt: skip
        self.records: list[dict[str, Any]] = []
        self._predictor, self._names, self._tracker = predictor, names, tracker
        self._target, self._output = target, target.parent
        self._logger = logger
        self._video: AnnotatedVideo | None = None
        self._progress = _Progress(logger)

    def add(self, found: Prediction, stream: PredictionStream) -> None:
        if self._video is not None and self._video.source != found.source:
            self._finish_video(stream)
        name, moving = self._names[found.source]
        if not moving:
            self._picture(found, name)
            return
        if self._video is None:
            live = camera_number(found.source) is not None
            self._video = AnnotatedVideo(
                found.source, self._output / name, self._predictor.metadata, tracker=self._tracker, sound=not live,
                rate=None if live else frame_rate(found.source),
            )  # fmt: skip
            self._progress.begin(found.source, None if live else frame_count(found.source))
        self._video.add(found)
        self._progress.step(self._video)

    def _picture(self, found: Prediction, name: str) -> None:
        outputs = best_first(found.outputs)
        scale = picture_scale(found.image)
        drawn = draw_outputs(found.image, outputs, self._predictor.metadata, scale).get_image()
        Image.fromarray(drawn).save(self._output / name, quality=90)
        height, width = found.image.shape[:2]
        record = {"file_name": found.source, "picture": name, "height": height, "width": width}
        record.update(output_record(outputs, self._predictor.metadata))
        self.records.append(record)
        self._logger.info("%s: %d objects", found.source, count_objects(record))

    def _finish_video(self, stream: PredictionStream) -> None:
        video, self._video = self._video, None
        self._progress.end()
        if video is None:
            return
        video.close()
        if not video.num_frames:
            return
        self.records.append(video.record(stream.broken_frames[video.source]))
        record = self.records[-1]
        tracks = f", {record['num_tracks']} tracks" if "num_tracks" in record else ""
        self._logger.info(
            "%s: %d frames, %d broken, %.1f frames/s%s; see %s", video.source, video.num_frames,
            record["broken_frames"], video.speed, tracks, video.path,
        )  # fmt: skip

    def close(self, stream: PredictionStream) -> None:
        self._finish_video(stream)
        if self.records or not self._target.exists():
            write_json(self._target, self.records)

    def summary(self, stream: PredictionStream) -> str:
        """Say in one line what was found."""
        videos = [r for r in self.records if "video" in r]
        total = sum(r.get("num_objects", count_objects(r)) for r in self.records)
        where = f"{len(self.records) - len(videos)} images"
        if videos:
            where += f" and {sum(r['frames'] for r in videos)} frames of {len(videos)} videos"
        broken = sum(stream.broken_frames.values())
        lost = f" and {broken} broken frames" if broken else ""
        return f"{total} objects in {where}, {stream.num_skipped} skipped{lost}; see {self._output}"


class _Progress:
    """A bar with frames/s on a terminal; elsewhere a line now and then."""

    def __init__(self, logger: logging.Logger) -> None:
        self._logger = logger
        self._bar: Progress | None = None
        self._task = TaskID(0)
        self._total: int | None = None

    def begin(self, source: str, total: int | None) -> None:
        self._total = total
        terminal = console(stderr=True)
        if terminal.is_terminal:
            columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TextColumn("{task.fields[speed]}"),
                       TimeRemainingColumn())  # fmt: skip
            self._bar = Progress(*columns, console=terminal, transient=True)
            self._task = self._bar.add_task(os.path.basename(source), total=total, speed="")
            self._bar.start()

    def step(self, video: AnnotatedVideo) -> None:
        if self._bar is not None:
            self._bar.update(self._task, advance=1, speed=f"{video.speed:.1f} frames/s")
        elif video.num_frames % _SAID_EVERY == 0:
            of = f" of {self._total}" if self._total else ""
            self._logger.info(
                "%s: %d%s frames, %.1f frames/s", video.source, video.num_frames, of, video.speed
            )

    def end(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None
