"""The HTTP application: its routes, and how it refuses."""

import asyncio
import io
import time
from collections.abc import Awaitable, Callable
from importlib.resources import files
from typing import Annotated, Any, Literal

import numpy as np
import numpy.typing as npt
from fastapi import FastAPI, Query, Request, Response
from fastapi.responses import HTMLResponse, JSONResponse
from PIL import Image

from detectron2 import __version__
from detectron2.data import Metadata
from detectron2.prediction import Predictor
from detectron2.prediction.drawing import draw_outputs
from detectron2.structures.types import ModelOutput

from .answers import MaskForm, describe
from .batcher import BusyError
from .body import BodyLimit, BodyTooLargeError
from .limits import Limits
from .pictures import PictureError
from .service import Service

__all__ = ["make_app"]

PictureKind = Literal["jpeg", "png"]

_RETRY_AFTER = "1"  # seconds
# Pages show only what comes from here; the drawn picture is a blob of the page itself.
_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'self'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src blob:",
}
_FILE = {"type": "string", "format": "binary"}
_FORM = {"type": "object", "properties": {"image": _FILE}, "required": ["image"]}
_BODY = {
    "content": {"image/*": {"schema": _FILE}, "multipart/form-data": {"schema": _FORM}},
    "required": True,
}
_REFUSALS: dict[int | str, dict[str, Any]] = {
    413: {"description": "Body or picture too large"},
    415: {"description": "No picture of a known format"},
    422: {"description": "Damaged picture, or a wrong option"},
    429: {"description": "Too many requests are waiting; Retry-After says when to come back"},
    504: {"description": "The time limit was exceeded"},
}


def make_app(predictor: Predictor, limits: Limits, name: str) -> FastAPI:
    """Make the application; see :func:`detectron2.serving.create_app`."""
    service = Service(predictor, limits, name)
    app = FastAPI(title=name, version=__version__, docs_url=None, redoc_url=None, lifespan=service.lifespan)
    app.state.service = service
    for kind in (BodyTooLargeError, PictureError, BusyError, TimeoutError):
        app.add_exception_handler(kind, _refuse)
    app.add_middleware(BodyLimit, max_bytes=limits.max_bytes)
    app.middleware("http")(_with_headers)
    _add_prediction(app, service)
    _add_state(app, service)
    for path, page in (("/", "upload.html"), ("/docs", "interface.html")):
        app.add_api_route(path, _page(page), include_in_schema=False, response_class=HTMLResponse)
    return app


def _add_prediction(app: FastAPI, service: Service) -> None:
    @app.post("/predict", openapi_extra={"requestBody": _BODY}, responses=_REFUSALS)
    async def predict(
        request: Request,
        output: Annotated[
            Literal["json", "jpeg", "png"], Query(description="JSON, or the drawn picture")
        ] = "json",
        scores: Annotated[float | None, Query(ge=0, le=1, description="lowest score of an object")] = None,
        masks: Annotated[MaskForm, Query(description="form of the masks in the JSON")] = "rle",
    ) -> Response:
        """Find objects in a picture."""
        start = time.monotonic()
        status = 500
        metadata = service.predictor.metadata
        try:
            image, outputs = await service.predict(request, scores)
            answer: Response
            if output == "json":
                answer = JSONResponse(
                    await asyncio.to_thread(describe, outputs, image.shape[:2], metadata, masks)
                )
            else:
                drawn = await asyncio.to_thread(_drawn, image, outputs, metadata, output)
                answer = Response(drawn, media_type=f"image/{output}")
            status = 200
            return answer
        except Exception as error:
            status = _status_of(error)
            raise
        finally:
            service.metrics.requests.labels(str(status)).inc()
            service.metrics.seconds.observe(time.monotonic() - start)


def _add_state(app: FastAPI, service: Service) -> None:
    @app.get("/health")
    async def health() -> dict[str, str]:
        """Say that the process lives."""
        return {"status": "alive"}

    @app.get("/ready")
    async def ready(response: Response) -> dict[str, Any]:
        """Say whether pictures are taken, by which model."""
        alive = service.batcher.alive
        if not alive:
            response.status_code = 503
        classes = list(service.predictor.metadata.get("thing_classes") or ())
        return {"ready": alive, "model": service.name, "classes": classes}

    @app.get("/metrics", include_in_schema=False)
    async def metrics() -> Response:
        return Response(service.metrics.text(), media_type="text/plain; version=0.0.4")


def _page(name: str) -> Callable[[], Awaitable[str]]:
    text = (files("detectron2.serving") / "pages" / name).read_text(encoding="utf-8")

    async def page() -> str:
        return text

    return page


async def _with_headers(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
    """Send the headers that keep pages harmless."""
    response = await call_next(request)
    response.headers.update(_HEADERS)
    return response


async def _refuse(request: Request, error: Exception) -> Response:
    """Answer an error with its status and one line of JSON."""
    status = _status_of(error)
    headers = {"Retry-After": _RETRY_AFTER} if status == 429 else {}
    return JSONResponse({"detail": str(error)}, status_code=status, headers=headers)


def _status_of(error: Exception) -> int:
    if isinstance(error, PictureError):
        return error.status
    known = {BodyTooLargeError: 413, BusyError: 429, TimeoutError: 504}
    return next((code for kind, code in known.items() if isinstance(error, kind)), 500)


def _drawn(
    image: npt.NDArray[np.uint8], outputs: ModelOutput, metadata: Metadata, kind: PictureKind
) -> bytes:
    pixels = draw_outputs(image, outputs, metadata).get_image()
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind)
    return file.getvalue()
