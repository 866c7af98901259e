"""Training data from a model's own predictions on unannotated images.

Reference: Sanakoyeu et al., Transferring Dense Pose to Proximal Animal Classes, https://arxiv.org/abs/2003.00080
"""

import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import nn

__all__ = ["InferenceBasedLoader", "ScoreBasedFilter"]

Outputs = list[dict[str, Any]]


def _chunks(items: Sequence[Any], size: int, drop_last: bool = False) -> Iterator[Sequence[Any]]:
    """Yield successive parts of ``size`` items; the last may be shorter, or is dropped."""
    for start in range(0, len(items), size):
        if not drop_last or start + size <= len(items):
            yield items[start : start + size]


class ScoreBasedFilter:
    """Keep the detections with a high score.

    Args:
        min_score: minimum score, in [0, 1].
    """

    def __init__(self, min_score: float = 0.8) -> None:
        self.min_score = min_score

    def __call__(self, model_output: Outputs) -> Outputs:
        """Filter the output of a model.

        Args:
            model_output: dicts with ``instances``; those without scores are not filtered.

        Returns:
            New dicts, one per image.
        """
        return [self._filter(output) for output in model_output]

    def _filter(self, output: dict[str, Any]) -> dict[str, Any]:
        instances = output["instances"]
        if not instances.has("scores"):
            return output
        return {**output, "instances": instances[instances.scores >= self.min_score]}


class InferenceBasedLoader:
    """Yield the predictions of a model on the images of a loader, as training data.

    An element is a dict of ``image``, tensor (3, H, W) on the device of the model, and ``instances`` with the
    field ``dataset_classes``, the class of the whole image in the dataset. Batches do not mix the images
    of different batches of ``data_loader``.

    Args:
        model: a detector, called with a list of dicts with ``image`` and ``category``.
        data_loader: yields lists of dicts with ``images``, tensors (N, 3, H, W), and ``categories``.
        data_sampler: converts the outputs of the model to training data, and may drop some; None = no conversion.
        data_filter: filters the outputs of the model first; None = no filter.
        shuffle: shuffle the elements of each batch of ``data_loader``.
        batch_size: number of elements per batch.
        inference_batch_size: number of images per inference batch.
        drop_last: drop incomplete batches.
        category_to_class_mapping: category to class; others, and all if None, are class 0.
    """

    def __init__(
        self,
        model: nn.Module,
        data_loader: Iterable[list[dict[str, Any]]],
        data_sampler: Callable[[Outputs], Outputs] | None = None,
        data_filter: Callable[[Outputs], Outputs] | None = None,
        shuffle: bool = True,
        batch_size: int = 4,
        inference_batch_size: int = 4,
        drop_last: bool = False,
        category_to_class_mapping: Mapping[str, int] | None = None,
    ) -> None:
        self.model = model
        self.model.eval()
        self.data_loader = data_loader
        self.data_sampler = data_sampler
        self.data_filter = data_filter
        self.shuffle = shuffle
        self.batch_size = batch_size
        self.inference_batch_size = inference_batch_size
        self.drop_last = drop_last
        self.category_to_class_mapping = dict(category_to_class_mapping or {})

    def __iter__(self) -> Iterator[Outputs]:
        for batch in self.data_loader:
            pairs = [
                {"image": image, "category": category}
                for entry in batch
                for image, category in zip(entry["images"], entry["categories"])
            ]
            elements = [
                e for chunk in _chunks(pairs, self.inference_batch_size) for e in self._predict(chunk)
            ]
            if self.shuffle:
                random.shuffle(elements)
            yield from _chunks(elements, self.batch_size, self.drop_last)  # type: ignore[misc]

    def _predict(self, pairs: Sequence[dict[str, Any]]) -> Outputs:
        """Return training data from a few images."""
        inputs = [{**pair, "image": pair["image"].to(self.model.device)} for pair in pairs]
        with torch.no_grad():
            outputs = self.model(inputs)
            elements = []
            for entry, output in zip(inputs, outputs):
                instances = output["instances"]
                number = self.category_to_class_mapping.get(entry["category"], 0)
                instances.dataset_classes = torch.full((len(instances),), number, dtype=torch.int64)
                elements.append({**output, "image": entry["image"]})
            if self.data_filter is not None:
                elements = self.data_filter(elements)
            if self.data_sampler is not None:
                elements = self.data_sampler(elements)
        return elements
