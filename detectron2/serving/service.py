"""What the routes share: one model, its queue, and the count of requests."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import numpy.typing as npt
from starlette.applications import Starlette
from starlette.requests import Request

from detectron2.prediction import Predictor
from detectron2.prediction.backends import Prepared
from detectron2.prediction.selection import on_cpu, select
from detectron2.structures.types import ModelOutput

from .batcher import Batcher, BusyError
from .limits import Limits
from .metrics import Metrics
from .pictures import PictureError, decode

__all__ = ["Service"]


class Service:
    """One model behind a queue.

    Args:
        predictor: the model.
        limits: what is accepted.
        name: of the model, for people.
    """

    def __init__(self, predictor: Predictor, limits: Limits, name: str) -> None:
        self.predictor, self.limits, self.name = predictor, limits, name
        self.metrics = Metrics()
        self.in_flight = 0
        self.batcher = Batcher(
            predictor.run_prepared, limits.batch_size, limits.batch_wait, limits.queue_size,
            self.metrics.batches.observe,
        )  # fmt: skip

    @asynccontextmanager
    async def lifespan(self, app: Starlette) -> AsyncIterator[None]:
        """Answer everything that was taken before the process ends."""
        yield
        await asyncio.to_thread(self.batcher.close)

    async def predict(self, request: Request, scores: float | None) -> tuple[npt.NDArray[Any], ModelOutput]:
        """Read the picture of a request and predict for it.

        Args:
            request: with the picture as its body, or in the field ``image`` of a form.
            scores: lowest score of an instance; None for the predictor's.

        Returns:
            The picture ``(H, W, 3)``, RGB, and the outputs on the CPU.

        Raises:
            BusyError: if too many requests are in the house.
            TimeoutError: if it takes too long.
            PictureError: if there is no picture that the service takes.
        """
        if self.in_flight >= self.limits.queue_size:
            raise BusyError("too many requests are waiting")
        self.in_flight += 1
        self.metrics.in_flight.set(self.in_flight)
        try:
            image, outputs = await asyncio.wait_for(self._predict(request), self.limits.timeout)
        except asyncio.TimeoutError:  # in Python 3.10 another class than the built-in
            raise TimeoutError(f"the request took longer than {self.limits.timeout:g} s") from None
        finally:
            self.in_flight -= 1
            self.metrics.in_flight.set(self.in_flight)
        outputs = select(on_cpu(outputs), scores, None)
        self.metrics.objects.inc(len(outputs.get("instances", ())))
        return image, outputs

    async def _predict(self, request: Request) -> tuple[npt.NDArray[Any], ModelOutput]:
        data = await _picture_bytes(request)
        image, prepared = await asyncio.to_thread(self._prepare, data)
        return image, await asyncio.wrap_future(self.batcher.submit(prepared))

    def _prepare(self, data: bytes) -> tuple[npt.NDArray[Any], Prepared]:
        image = decode(data, self.limits.max_pixels)
        return image, self.predictor.backend.prepare(image)


async def _picture_bytes(request: Request) -> bytes:
    if not request.headers.get("content-type", "").startswith("multipart/form-data"):
        return await request.body()
    async with request.form(max_files=1, max_fields=8) as form:
        field = form.get("image")
        if field is None or isinstance(field, str):
            raise PictureError(422, "the form has no file in its field 'image'")
        return await field.read()
