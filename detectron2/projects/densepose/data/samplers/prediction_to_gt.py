"""Use predictions as ground truth."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from detectron2.structures import Instances

__all__ = ["PredictionToGroundTruthSampler"]

FieldFunction = Callable[[Instances], Any]


@dataclass(frozen=True)
class _FieldRule:
    """Rule that converts one field of predictions to one of ground truth; without ``target`` the field is dropped."""

    source: str
    target: str | None
    function: FieldFunction | None


class PredictionToGroundTruthSampler:
    """Convert the output of a model to training data, by one rule per field.

    By default ``pred_boxes`` become ``gt_boxes``, ``pred_classes`` become ``gt_classes`` and ``scores`` are dropped.
    Fields without a rule stay.

    Args:
        dataset_name: value of ``dataset`` in each element.
    """

    def __init__(self, dataset_name: str = "") -> None:
        self.dataset_name = dataset_name
        self._rules: dict[tuple[str, str | None], _FieldRule] = {}
        self.register_sampler("pred_boxes", "gt_boxes")
        self.register_sampler("pred_classes", "gt_classes")
        self.register_sampler("scores")

    def __call__(self, model_output: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Convert predictions to training data.

        Args:
            model_output: dicts with ``instances``.

        Returns:
            New dicts, one per image.
        """
        return [
            {**output, "instances": self._convert(output["instances"]), "dataset": self.dataset_name}
            for output in model_output
        ]

    def _convert(self, instances: Instances) -> Instances:
        rules = [rule for rule in self._rules.values() if instances.has(rule.source)]
        fields = dict(instances.get_fields())
        for rule in rules:
            if rule.target != rule.source:
                fields.pop(rule.source, None)
        for rule in rules:
            if rule.target is not None:
                value = instances.get(rule.source) if rule.function is None else rule.function(instances)
                fields[rule.target] = value
        return Instances(instances.image_size, **fields)

    def register_sampler(
        self, prediction_attr: str, gt_attr: str | None = None, func: FieldFunction | None = None
    ) -> None:
        """Add or replace the rule for a field.

        Args:
            prediction_attr: field of the predictions, which is dropped.
            gt_attr: field of the training data; None = none.
            func: computes it from all fields of the predictions; None = copy the field.
        """
        self._rules[prediction_attr, gt_attr] = _FieldRule(prediction_attr, gt_attr, func)

    def remove_sampler(self, prediction_attr: str, gt_attr: str | None = None) -> None:
        """Remove the rule for a field.

        Args:
            prediction_attr: as in :meth:`register_sampler`.
            gt_attr: as in :meth:`register_sampler`.

        Raises:
            KeyError: there is no such rule.
        """
        if (prediction_attr, gt_attr) not in self._rules:
            raise KeyError(f"no rule from {prediction_attr!r} to {gt_attr!r}; rules are {list(self._rules)}")
        del self._rules[prediction_attr, gt_attr]
