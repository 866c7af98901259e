"""Figures of a running job: the storage that collects them and the writers that show them."""

from __future__ import annotations

from detectron2.utils._event_storage import (
    _CURRENT_STORAGE_STACK as _CURRENT_STORAGE_STACK,
)
from detectron2.utils._event_storage import (
    EventStorage,
    get_event_storage,
    has_event_storage,
)
from detectron2.utils._event_writers import (
    CommonMetricPrinter,
    EventWriter,
    JSONWriter,
    TensorboardXWriter,
)
from detectron2.utils._experiment_writers import MLflowWriter, WandbWriter
from detectron2.utils._history import HistoryBuffer

__all__ = [
    "CommonMetricPrinter",
    "EventStorage",
    "EventWriter",
    "HistoryBuffer",
    "JSONWriter",
    "MLflowWriter",
    "TensorboardXWriter",
    "WandbWriter",
    "get_event_storage",
    "has_event_storage",
]
