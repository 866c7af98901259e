"""One interface to local files, URLs and remote stores: ``PathManager``.

It opens ``detectron2://…``, ``https://…``, plain paths and any URL that fsspec supports. Downloads are cached
(``$FVCORE_CACHE``, default ``~/.torch/iopath_cache``), checked against the hash in their names, and resumed after an
interruption. With ``DETECTRON2_OFFLINE=1`` only the cache and local files are used.
"""

from .base import PathHandler
from .http import HTTPURLHandler, get_cache_dir
from .registry import PathRegistry

__all__ = ["PathHandler", "PathManager", "get_cache_dir"]


class Detectron2Handler(PathHandler):
    """``detectron2://`` paths: short URLs of the public files of Detectron2, such as the model zoo."""

    PREFIX = "detectron2://"
    S3_DETECTRON2_PREFIX = "https://dl.fbaipublicfiles.com/detectron2/"

    def _get_supported_prefixes(self) -> list[str]:
        return [self.PREFIX]

    def _url(self, path: str) -> str:
        return self.S3_DETECTRON2_PREFIX + path[len(self.PREFIX) :]

    def _get_local_path(self, path: str, force: bool = False, **kwargs: object) -> str:
        return PathManager.get_local_path(self._url(path), force=force, **kwargs)

    def _open(self, path: str, mode: str = "r", buffering: int = -1, **kwargs: object):  # type: ignore[no-untyped-def]
        return PathManager.open(self._url(path), mode, buffering, **kwargs)

    def _exists(self, path: str, **kwargs: object) -> bool:
        return PathManager.exists(self._url(path))

    def _isfile(self, path: str, **kwargs: object) -> bool:
        return PathManager.isfile(self._url(path))


PathManager = PathRegistry()
PathManager.register_handler(HTTPURLHandler())
PathManager.register_handler(Detectron2Handler())
