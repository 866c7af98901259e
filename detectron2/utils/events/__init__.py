"""Metrics of a running job: the storage that collects them and the writers that output them."""

from __future__ import annotations

from .history import HistoryBuffer
from .storage import _CURRENT_STORAGE_STACK as _CURRENT_STORAGE_STACK
from .storage import EventStorage, get_event_storage, has_event_storage
from .trackers import MLflowWriter, WandbWriter
from .writers import CommonMetricPrinter, EventWriter, JSONWriter, TensorboardXWriter

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
