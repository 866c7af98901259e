"""Parameter names of the first PointRend releases."""

from collections.abc import Mapping

from torch import Tensor

__all__ = ["rename_entries"]


def rename_entries(state_dict: dict[str, Tensor], prefix: str, names: Mapping[str, str]) -> None:
    """Rename entries of a state dict in place.

    Args:
        state_dict: state dict of a whole model.
        prefix: prefix of the module within the model.
        names: old to new prefixes of names within the module.
    """
    for old, new in names.items():
        for name in [name for name in state_dict if name.startswith(prefix + old)]:
            state_dict[prefix + new + name[len(prefix + old) :]] = state_dict.pop(name)
