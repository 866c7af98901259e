"""A model as an HTTP service: pictures in, JSON or drawn pictures out.

:func:`create_app` makes the application; ``detectron2 serve`` runs it. Both need the extra ``serve``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from detectron2.prediction import Predictor
from detectron2.utils.errors import UserError

from .limits import Limits

if TYPE_CHECKING:
    from fastapi import FastAPI

__all__ = ["Limits", "create_app"]


def create_app(predictor: Predictor, limits: Limits | None = None, name: str = "detectron2") -> FastAPI:
    """Make the application that serves one model.

    ``POST /predict`` takes a picture, as the body or as the field ``image`` of a form, and answers with JSON or with the
    drawn picture. ``GET /`` is a page to try it, ``/docs`` describes the interface (``/openapi.json``), ``/health`` says
    that the process lives, ``/ready`` that it takes pictures, and ``/metrics`` has figures for Prometheus.

    Args:
        predictor: the model. No request can ask for objects below its ``scores``.
        limits: what is accepted.
        name: of the model, for people.

    Raises:
        UserError: if a library of the extra ``serve`` is missing.
    """
    try:
        import python_multipart  # noqa: F401

        from .app import make_app  # here, since FastAPI is optional
    except ImportError as error:
        raise UserError(
            f"a service needs more packages: pip install 'detectron2[serve]' ({error})"
        ) from error
    return make_app(predictor, limits or Limits(), name)
