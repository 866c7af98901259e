"""Base class of vertex embedders."""

import torch
from torch import nn

from detectron2.checkpoint import read_checkpoint_file
from detectron2.utils.file_io import PathManager

__all__ = ["VertexEmbedder"]


class VertexEmbedder(nn.Module):
    """Base of embedders, which return one vector per vertex of a mesh; all tables start as zeros."""

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Fill every table with zeros."""
        for table in self.state_dict().values():
            table.zero_()

    @torch.no_grad()
    def load(self, fpath: str) -> None:
        """Load tables from a file; missing tables stay unchanged.

        Args:
            fpath: path or URL of a pickled dictionary of arrays with the names of this module's tables.

        Raises:
            ValueError: a table has the wrong shape.
        """
        content = read_checkpoint_file(PathManager.get_local_path(fpath))
        for name, table in self.state_dict().items():
            if name not in content:
                continue
            values = torch.as_tensor(content[name])
            if values.shape != table.shape:
                raise ValueError(
                    f"{name} of {fpath} has shape {list(values.shape)}, expected {list(table.shape)}"
                )
            table.copy_(values)
