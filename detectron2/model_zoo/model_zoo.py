"""Getting configs, weights and models of the zoo by the path of their config."""

from typing import TYPE_CHECKING, Any

from detectron2.config import CfgNode, LazyConfig, get_cfg, instantiate
from detectron2.config.projects import defaults_for
from detectron2.utils.reexports import publish

from .paths import UnknownConfigError, get_checkpoint_url, get_config_file

if TYPE_CHECKING:
    import torch

    from detectron2.config.types import Config


__all__ = [
    "CfgNode",
    "get",
    "get_cfg",
    "get_checkpoint_url",
    "get_config",
    "get_config_file",
    "instantiate",
]

publish(__name__, get_checkpoint_url, get_config_file)


def __getattr__(name: str) -> Any:
    """Give the two names that load torch only to those who ask for them."""
    if name == "DetectionCheckpointer":
        from detectron2.checkpoint import DetectionCheckpointer

        return DetectionCheckpointer
    if name == "build_model":
        from detectron2.modeling import build_model

        return build_model
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def get_config(config_path: str, trained: bool = False) -> "Config":
    """Load a config of the zoo.

    Args:
        config_path: such as ``"COCO-Detection/retinanet_R_50_FPN_1x.py"``; or, for a project,
            ``"PointRend/configs/…"``, which imports it and adds its keys.
        trained: set the weights to the published ones, instead of those that training starts from.

    Returns:
        A ``CfgNode`` for a ``.yaml`` file, an omegaconf dictionary for a ``.py`` file.

    Raises:
        UnknownConfigError: if there is no such config, or no published weights.
    """
    path = get_config_file(config_path)
    if path.endswith(".yaml"):
        cfg = defaults_for(path)
        cfg.merge_from_file(path)
        if trained:
            cfg.MODEL.WEIGHTS = get_checkpoint_url(config_path)
        return cfg
    lazy = LazyConfig.load(path)
    if trained:
        url = get_checkpoint_url(config_path)
        if "init_checkpoint" not in lazy.get("train", {}):
            raise UnknownConfigError(f"{config_path} describes a part, not a whole model with weights")
        lazy.train.init_checkpoint = url
    return lazy


def get(config_path: str, trained: bool = False, device: str | None = None) -> "torch.nn.Module":
    """Build a model of the zoo and load weights into it.

    Args:
        config_path: as in :func:`get_config`.
        trained: load the published weights, instead of those that training starts from (which may be none).
        device: where the model goes; default: as the config says, or the CPU if there is no GPU.

    Returns:
        The model, in training mode.

    Raises:
        UnknownConfigError: if there is no such config, or no published weights.
        ConnectionError: if weights are neither in the cache nor can be downloaded.
    """
    import torch

    from detectron2.checkpoint import DetectionCheckpointer
    from detectron2.engine.run_config import run_config

    run = run_config(get_config(config_path, trained))
    if device is None and not torch.cuda.is_available():
        device = "cpu"
    if device is not None:
        run.put(device=device)
    model = run.model()
    if run.options.weights:
        DetectionCheckpointer(model).load(run.options.weights)
    return model
