"""Predictions drawn on pictures and videos, for demo.py."""

from __future__ import annotations

import multiprocessing as mp
from collections import deque
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import torch

from detectron2.data import MetadataCatalog
from detectron2.engine import DefaultPredictor
from detectron2.prediction.drawing import draw_frame, draw_outputs
from detectron2.visualization import ColorMode
from detectron2.visualization.video_visualizer import VideoVisualizer

__all__ = ["AsyncPredictor", "VisualizationDemo"]


def select(predictions: dict[str, Any], threshold: float) -> dict[str, Any]:
    """Leaves out instances whose score is below a threshold; other predictions stay."""
    instances = predictions.get("instances")
    if instances is None or not instances.has("scores"):
        return predictions
    return {**predictions, "instances": instances[instances.scores >= threshold]}


class VisualizationDemo:
    """Predicts and draws.

    Args:
        cfg: either kind of config.
        instance_mode: how to colour instances.
        parallel: predict in one process per GPU while this one reads and draws.
        threshold: lowest score that is drawn.
    """

    def __init__(
        self,
        cfg: Any,
        instance_mode: ColorMode = ColorMode.IMAGE,
        parallel: bool = False,
        threshold: float = 0.0,
    ) -> None:
        self.instance_mode = instance_mode
        self.threshold = threshold
        self.cpu_device = torch.device("cpu")
        self.predictor: Any
        if parallel:
            self.predictor = AsyncPredictor(cfg, num_gpus=torch.cuda.device_count())
            self.metadata = self.predictor.metadata
        else:
            self.predictor = DefaultPredictor(cfg)
            self.metadata = self.predictor.metadata

    def run_on_image(self, image: np.ndarray) -> tuple[dict[str, Any], Any]:
        """Predicts for one picture and draws it.

        Args:
            image: (H, W, 3), BGR.

        Returns:
            The predictions and a `VisImage` with the drawing.
        """
        predictions = self.predictor(image)
        shown = select(predictions, self.threshold)
        return predictions, draw_outputs(image[:, :, ::-1], shown, self.metadata, mode=self.instance_mode)

    def run_on_video(self, video: Any) -> Iterator[np.ndarray]:
        """Predicts and draws frame by frame; memory does not grow with the length.

        Args:
            video: an open `cv2.VideoCapture`, or an iterable of frames (H, W, 3), BGR.

        Yields:
            Drawn frames, (H, W, 3), BGR.
        """
        drawer = VideoVisualizer(self.metadata, self.instance_mode)
        frames = _frames(video)
        if isinstance(self.predictor, AsyncPredictor):
            pairs: Iterable[tuple[np.ndarray, dict[str, Any]]] = self.predictor.stream(frames)
        else:
            pairs = ((frame, self.predictor(frame)) for frame in frames)
        for frame, predictions in pairs:
            rgb = np.ascontiguousarray(frame[:, :, ::-1])
            drawn = draw_frame(drawer, rgb, select(predictions, self.threshold)).get_image()
            yield np.ascontiguousarray(drawn[:, :, ::-1])


def _frames(video: Any) -> Iterator[np.ndarray]:
    """Frames until the video ends."""
    if not hasattr(video, "isOpened"):
        yield from video
        return
    while video.isOpened():
        there, frame = video.read()
        if not there:
            return
        yield frame


def _serve(cfg: Any, device: str, tasks: Any, results: Any) -> None:
    """Body of a predicting process: None ends it."""
    predictor = DefaultPredictor(_on_device(cfg, device))
    for number, image in iter(tasks.get, None):
        try:
            results.put((number, predictor(image)))
        except Exception as error:
            results.put((number, error))


def _on_device(cfg: Any, device: str) -> Any:
    """A copy of a config with another device."""
    if hasattr(cfg, "MODEL"):
        cfg = cfg.clone()
        cfg.defrost()
        cfg.MODEL.DEVICE = device
    else:
        cfg = cfg.copy()
        cfg.train.device = device
    return cfg


class AsyncPredictor:
    """Predicts in one process per GPU, in order, so that reading and drawing overlap with it.

    Args:
        cfg: either kind of config.
        num_gpus: how many; 0 starts one process on the CPU.
    """

    def __init__(self, cfg: Any, num_gpus: int = 1) -> None:
        context = mp.get_context("spawn")
        devices = [f"cuda:{i}" for i in range(num_gpus)] or ["cpu"]
        self._tasks = context.Queue(maxsize=len(devices) * 3)
        self._results = context.Queue(maxsize=len(devices) * 3)
        self._workers = [
            context.Process(target=_serve, args=(cfg, device, self._tasks, self._results), daemon=True)
            for device in devices
        ]
        for worker in self._workers:
            worker.start()
        names = cfg.DATASETS.TEST if hasattr(cfg, "DATASETS") else []
        self.metadata = MetadataCatalog.get(names[0] if len(names) else "__unused")
        self._next_in = self._next_out = 0
        self._early: dict[int, Any] = {}

    def __len__(self) -> int:
        return self._next_in - self._next_out

    @property
    def default_buffer_size(self) -> int:
        """How many pictures may be under way."""
        return len(self._workers) * 5

    def put(self, image: np.ndarray) -> None:
        """Hands in a picture."""
        self._tasks.put((self._next_in, image))
        self._next_in += 1

    def get(self) -> dict[str, Any]:
        """The predictions for the oldest picture that is under way."""
        while self._next_out not in self._early:
            number, result = self._results.get()
            self._early[number] = result
        result = self._early.pop(self._next_out)
        self._next_out += 1
        if isinstance(result, Exception):
            raise result
        return result

    def __call__(self, image: np.ndarray) -> dict[str, Any]:
        self.put(image)
        return self.get()

    def stream(self, images: Iterable[np.ndarray]) -> Iterator[tuple[np.ndarray, dict[str, Any]]]:
        """Pictures with their predictions, a bounded number under way at a time."""
        waiting: deque[np.ndarray] = deque()
        for image in images:
            self.put(image)
            waiting.append(image)
            if len(waiting) >= self.default_buffer_size:
                yield waiting.popleft(), self.get()
        while waiting:
            yield waiting.popleft(), self.get()

    def shutdown(self) -> None:
        """Ends the processes."""
        for _ in self._workers:
            self._tasks.put(None)
        for worker in self._workers:
            worker.join(timeout=5)
