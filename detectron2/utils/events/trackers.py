"""Writers for experiment trackers: Weights & Biases and MLflow."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .storage import get_event_storage
from .writers import EventWriter, _NewScalars

__all__ = ["MLflowWriter", "WandbWriter"]


class WandbWriter(EventWriter):
    """Sends scalars and images to Weights & Biases.

    Args:
        project: project name.
        config: settings of the run.
        window_size: iterations for the median of noisy metrics.
        **kwargs: passed to ``wandb.init``, such as ``name``, ``dir``, ``mode="offline"``.

    Raises:
        ImportError: if wandb is not installed.
    """

    def __init__(
        self,
        project: str = "detectron2",
        config: Mapping[str, Any] | None = None,
        window_size: int = 20,
        **kwargs: object,
    ) -> None:
        try:
            import wandb
        except ImportError as error:
            raise ImportError("WandbWriter needs wandb: pip install 'detectron2[wandb]'") from error
        self._image = wandb.Image
        self._run = wandb.init(project=project, config=dict(config or {}), **kwargs)
        self._new = _NewScalars(window_size)

    def write(self) -> None:
        storage = get_event_storage()
        # wandb drops decreasing steps, so the iteration is also sent as a value.
        for iteration, scalars in sorted(self._new.take(storage).items()):
            self._run.log({**scalars, "iteration": iteration}, step=iteration)
        for name, picture, iteration in storage._vis_data:
            array = picture.cpu().numpy() if hasattr(picture, "cpu") else picture
            self._run.log({name: self._image(array.transpose(1, 2, 0))}, step=iteration)

    def close(self) -> None:
        self._run.finish()


def _flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Flatten nested settings to dotted names."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping):
            flat.update(_flat(value, f"{prefix}{key}."))
        else:
            flat[f"{prefix}{key}"] = value
    return flat


class MLflowWriter(EventWriter):
    """Sends scalars to an MLflow tracking store, remote or in a local folder.

    Args:
        experiment: experiment name.
        tracking_uri: URL or ``file:`` folder of the store; None for MLflow's default.
        run_name: name of the run.
        config: settings of the run, stored as parameters.
        window_size: iterations for the median of noisy metrics.

    Raises:
        ImportError: if mlflow is not installed.
    """

    def __init__(
        self,
        experiment: str = "detectron2",
        tracking_uri: str | None = None,
        run_name: str | None = None,
        config: Mapping[str, Any] | None = None,
        window_size: int = 20,
    ) -> None:
        try:
            from mlflow.entities import Metric, Param
            from mlflow.tracking import MlflowClient
        except ImportError as error:
            raise ImportError("MLflowWriter needs mlflow: pip install 'detectron2[mlflow]'") from error
        self._metric = Metric
        # A separate client does not affect a run that the caller has open.
        self._client = MlflowClient(tracking_uri=tracking_uri)
        found = self._client.get_experiment_by_name(experiment)
        identity = found.experiment_id if found else self._client.create_experiment(experiment)
        self._run_id = self._client.create_run(identity, run_name=run_name).info.run_id
        # The store refuses longer values, and more than 100 parameters per call.
        params = [Param(key, str(value)[:500]) for key, value in _flat(config or {}).items()]
        for start in range(0, len(params), 100):
            self._client.log_batch(self._run_id, params=params[start : start + 100])
        self._new = _NewScalars(window_size)

    @property
    def run_id(self) -> str:
        """Id of the run in the store."""
        return self._run_id

    def write(self) -> None:
        import time

        now = int(time.time() * 1000)
        for iteration, scalars in self._new.take(get_event_storage()).items():
            metrics = [self._metric(self._name(k), v, now, iteration) for k, v in scalars.items()]
            for start in range(0, len(metrics), 1000):
                self._client.log_batch(self._run_id, metrics=metrics[start : start + 1000])

    @staticmethod
    def _name(name: str) -> str:
        """Replace characters that the store does not accept: all but letters, digits and ``_-. /``."""
        return "".join(c if c.isalnum() or c in "_-. /" else "_" for c in name)

    def close(self) -> None:
        self._client.set_terminated(self._run_id)
