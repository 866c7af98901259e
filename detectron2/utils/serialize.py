"""Pickle functions that plain pickle refuses."""

from __future__ import annotations

from typing import Any

import cloudpickle

__all__ = ["PicklableWrapper"]


def _restore(payload: bytes) -> PicklableWrapper:
    return PicklableWrapper(cloudpickle.loads(payload))


class PicklableWrapper:
    """Wrap an object to pickle it with cloudpickle, which supports lambdas and closures.

    A data set that maps with a lambda can thus be sent to spawned loader workers. Calls and attribute access are
    forwarded to the object.

    Args:
        obj: object to wrap; another wrapper is unwrapped first.
    """

    def __init__(self, obj: object) -> None:
        self._obj: Any = obj._obj if isinstance(obj, PicklableWrapper) else obj

    def __reduce__(self) -> tuple[Any, ...]:
        return _restore, (cloudpickle.dumps(self._obj),)

    def __call__(self, *args: object, **kwargs: object) -> Any:
        return self._obj(*args, **kwargs)

    def __getattr__(self, attr: str) -> Any:
        # Only reached if normal lookup failed; ``_obj`` itself is missing while unpickling.
        if attr == "_obj":
            raise AttributeError(attr)
        return getattr(self._obj, attr)
