"""The recipe's steps on a Python config."""

from collections.abc import Iterator
from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf

from ..errors import UserError
from .config_files import put

__all__ = ["fit_lazy", "from_scratch_lazy", "set_classes_lazy"]

CLASS_PLACES = ("model.num_classes", "model.roi_heads.num_classes", "model.head.num_classes")


def set_classes_lazy(cfg: Any, count: int) -> None:
    """Set the number of thing classes; other places refer to these by interpolation."""
    found = [p for p in CLASS_PLACES if isinstance(_raw(cfg, p), int)]
    if not found:
        raise UserError(
            f"this config has no number of classes at {', '.join(CLASS_PLACES)}; set it with key=value"
        )
    for place in found:
        OmegaConf.update(cfg, place, count)


def fit_lazy(cfg: Any, batch: int, workers: int, steps: int, names: tuple[str, str]) -> None:
    """Set data sets, batch, learning rate and length; decay steps and warm-up keep their shares of the run.

    Args:
        cfg: a config with the zoo's parts: dataloader, optimizer, lr_multiplier, train.
        batch: images a step.
        workers: loader processes.
        steps: length.
        names: data sets for training and testing.
    """
    loader = cfg.dataloader
    for part, name in zip((loader.train, loader.test), names):
        part.dataset.names = name
        part.num_workers = workers
    if "evaluator" in loader:  # labels that no json of their own has are converted, and need a place
        OmegaConf.update(
            cfg, "dataloader.evaluator.output_dir", "${train.output_dir}/inference", force_add=True
        )
    cfg.optimizer.lr = cfg.optimizer.lr * batch / loader.train.total_batch_size
    loader.train.total_batch_size = batch
    old = int(cfg.train.max_iter)
    schedule = cfg.lr_multiplier
    curve = schedule.get("scheduler", schedule)
    if "milestones" in curve:
        total = int(curve.get("num_updates") or old)
        curve.milestones = [max(round(m * steps / total), 1) for m in curve.milestones]
        if curve.get("num_updates"):
            curve.num_updates = steps
    if "warmup_length" in schedule:
        schedule.warmup_length = min(schedule.warmup_length * old / steps, 0.1)
    put(cfg, max_iter=steps, eval_period=max(steps // 5, 1), checkpoint_period=max(steps // 10, 1))


def from_scratch_lazy(cfg: Any) -> None:
    """Unfreeze layers and statistics of the backbone."""
    for node in _nodes(cfg.model.backbone):
        if isinstance(node.get("freeze_at"), int):
            node.freeze_at = 0
        if _raw(node, "norm") == "FrozenBN":
            node.norm = "BN"


def _nodes(node: Any) -> Iterator[DictConfig]:
    """Every dictionary at or below a node."""
    children: list[Any] = []
    if isinstance(node, DictConfig):
        yield node
        children = [node._get_node(key) for key in node]
    elif isinstance(node, ListConfig):
        children = [node._get_node(i) for i in range(len(node))]
    for child in children:
        yield from _nodes(child)


def _raw(cfg: Any, place: str) -> Any:
    """The value at a place without following interpolations; None where there is none."""
    *parents, last = place.split(".")
    node = cfg
    for part in parents:
        node = node.get(part) if isinstance(node, DictConfig) else None
    if not isinstance(node, DictConfig) or last not in node:
        return None
    child = node._get_node(last)
    value = child._value() if child is not None and not isinstance(child, (DictConfig, ListConfig)) else child
    return value
