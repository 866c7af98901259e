"""Formatting results, and comparing them with expected values."""

from __future__ import annotations

import logging
import math
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from detectron2.config.types import Config
from detectron2.utils.errors import BadType

__all__ = ["flatten_results_dict", "print_csv_format", "verify_results"]


def print_csv_format(results: Mapping[str, Any]) -> None:
    """Log a line of names and a line of values per task, to paste into a spreadsheet.

    Metrics with a hyphen in their names (those of single categories) are skipped.

    Args:
        results: ``{task: {metric: value}}``; a number instead of a dict is logged as ``task=value``.

    Raises:
        TypeError: if ``results`` is not a mapping.
    """
    if not isinstance(results, Mapping):
        raise BadType(f"results must be a dict of dicts, got {type(results).__name__}")
    logger = logging.getLogger(__name__)
    for task, metrics in results.items():
        if not isinstance(metrics, Mapping):
            logger.info("copypaste: %s=%s", task, metrics)
            continue
        main = {name: value for name, value in metrics.items() if "-" not in name}
        logger.info("copypaste: Task: %s", task)
        logger.info("copypaste: %s", ",".join(main))
        logger.info("copypaste: %s", ",".join(format(value, ".4f") for value in main.values()))


def verify_results(cfg: Config, results: Mapping[str, Any]) -> bool:
    """Compare results with ``cfg.TEST.EXPECTED_RESULTS``.

    Args:
        cfg: a config; each entry of its ``TEST.EXPECTED_RESULTS`` is ``[task, metric, value, tolerance]``.
        results: ``{task: {metric: value}}``.

    Returns:
        True.

    Raises:
        SystemExit: status 1, if a result is missing, not finite, or off by more than the tolerance.
    """
    expected = cfg.TEST.EXPECTED_RESULTS
    if not expected:
        return True
    logger = logging.getLogger(__name__)
    faults = [fault for entry in expected if (fault := _fault(entry, results))]
    if not faults:
        logger.info("All %d expected results were reached.", len(expected))
        return True
    for fault in faults:
        logger.error("Unexpected result: %s", fault)
    sys.exit(1)


def _fault(entry: Sequence[Any], results: Mapping[str, Any]) -> str | None:
    """Describe the difference from an expected result; None if it was reached."""
    task, metric, value, tolerance = entry
    actual = results.get(task, {}).get(metric)
    if actual is None:
        return f"{task}/{metric} is absent; expected {value} +- {tolerance}"
    if not math.isfinite(actual):
        return f"{task}/{metric} is {actual}; expected {value} +- {tolerance}"
    if abs(actual - value) > tolerance:
        return f"{task}/{metric} is {actual:.4f}; expected {value} +- {tolerance}"
    return None


def flatten_results_dict(results: Mapping[str, Any]) -> dict[str, Any]:
    """Flatten nested dicts to one level, with keys joined by ``/``, such as ``{"bbox/AP": 38.5, ...}``."""
    flat: dict[str, Any] = {}
    for key, value in results.items():
        if isinstance(value, Mapping):
            flat.update({f"{key}/{inner}": leaf for inner, leaf in flatten_results_dict(value).items()})
        else:
            flat[key] = value
    return flat
