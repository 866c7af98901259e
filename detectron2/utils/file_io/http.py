"""``http://`` and ``https://`` paths, downloaded to a local cache."""

import hashlib
import logging
import os
from typing import IO, Any
from urllib.parse import unquote, urlparse

from .base import PathHandler
from .download import HASHING_HOSTS, download, exists
from .lock import made_once

__all__ = ["HTTPURLHandler", "get_cache_dir", "is_offline"]

logger = logging.getLogger(__name__)

_LONGEST_NAME = 150  # characters of a file name in the cache; file systems allow 255 bytes


def get_cache_dir(cache_dir: str | None = None) -> str:
    """Return the folder of downloaded files: the argument, else ``$FVCORE_CACHE``, else ``~/.torch/iopath_cache``.

    This is Detectron2's own cache folder, so that nothing is downloaded twice.
    """
    return os.path.expanduser(cache_dir or os.environ.get("FVCORE_CACHE") or "~/.torch/iopath_cache")


def is_offline() -> bool:
    """Return whether ``DETECTRON2_OFFLINE`` forbids the network."""
    return os.environ.get("DETECTRON2_OFFLINE", "").lower() not in ("", "0", "false", "no")


def place_in_cache(url: str) -> list[str]:
    """Return the parts of the path of a URL in the cache, different for each URL.

    Files of hosts that name them by content are where Detectron2 puts them; all others are in a folder of their scheme
    and host. A hash distinguishes queries, and paths that are not plain names.

    Raises:
        ValueError: if the URL names no file.
    """
    found = urlparse(url)
    raw = found.path.strip("/").split("/")
    parts = [p for p in unquote(found.path).replace("\\", "/").split("/") if p not in ("", ".", "..")]
    if not parts:
        raise ValueError(f"{url} names no file")
    if found.query or parts != raw or len(parts[-1]) > _LONGEST_NAME:
        stem, suffix = os.path.splitext(parts[-1])
        digest = hashlib.sha256(url.encode()).hexdigest()[:12]
        parts[-1] = f"{stem[:_LONGEST_NAME]}.{digest}{suffix[:20]}"
    if found.hostname in HASHING_HOSTS and found.scheme == "https" and found.port in (None, 443):
        return parts
    host = (found.hostname or "").replace(":", "_")
    return [found.scheme, f"{host}_{found.port}" if found.port else host, *parts]


class HTTPURLHandler(PathHandler):
    """``http://`` and ``https://``: files are downloaded once and then read from the cache."""

    def __init__(self) -> None:
        self.cache_map: dict[str, str] = {}

    def _get_supported_prefixes(self) -> list[str]:
        return ["http://", "https://"]

    def _get_local_path(
        self, path: str, force: bool = False, cache_dir: str | None = None, **kwargs: Any
    ) -> str:
        self._check_kwargs(kwargs)
        known = self.cache_map.get(path)
        if known and not force and cache_dir is None and os.path.isfile(known):
            return known
        cache = get_cache_dir(cache_dir)
        local = os.path.join(cache, *place_in_cache(path))
        with made_once(local):
            if force or not os.path.isfile(local):
                if is_offline():
                    raise FileNotFoundError(
                        f"{path} is not in the cache ({local}) and DETECTRON2_OFFLINE is set; download it to that path"
                    )
                logger.info("downloading %s", path)
                download(path, local, cache)
        self.cache_map[path] = local
        return local

    def _open(self, path: str, mode: str = "r", buffering: int = -1, **kwargs: Any) -> IO[Any]:
        if mode not in ("r", "rb", "rt"):
            raise ValueError(f"{path} can only be read, not opened with mode {mode!r}")
        cache_dir = kwargs.pop("cache_dir", None)
        if "b" not in mode:
            kwargs.setdefault("encoding", "utf-8")
        return open(self._get_local_path(path, cache_dir=cache_dir), mode, buffering=buffering, **kwargs)

    def _exists(self, path: str, **kwargs: object) -> bool:
        self._check_kwargs(kwargs)
        if os.path.isfile(os.path.join(get_cache_dir(), *place_in_cache(path))):
            return True
        return not is_offline() and exists(path)

    def _isfile(self, path: str, **kwargs: object) -> bool:
        return self._exists(path, **kwargs)

    def _isdir(self, path: str, **kwargs: object) -> bool:
        return False
