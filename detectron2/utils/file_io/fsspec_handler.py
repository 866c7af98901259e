"""URLs of any scheme that fsspec supports (``s3://``, ``gs://``, ``hf://``, ``memory://``, …)."""

import os
from typing import IO, Any

from .base import PathHandler
from .http import get_cache_dir, is_offline

__all__ = ["FsspecHandler"]


def _filesystem(path: str) -> tuple[Any, str]:
    """Return the file system of a URL and the path within it."""
    scheme = path.split("://")[0]
    try:
        import fsspec
    except ImportError as e:
        raise ImportError(f"reading {scheme}:// needs fsspec: pip install 'detectron2[remote]'") from e
    try:
        fs, inner = fsspec.core.url_to_fs(path)
    except ValueError as e:
        raise ValueError(
            f"{path}: no handler for {scheme}://, neither registered with PathManager nor in fsspec"
        ) from e
    except ImportError as e:
        raise ImportError(f"{path}: fsspec needs another package for {scheme}://: {e}") from e
    return fs, inner


class FsspecHandler(PathHandler):
    """Remote stores through fsspec; local copies are in the cache."""

    def _get_supported_prefixes(self) -> list[str]:
        return []  # the fallback for all other prefixes

    def _open(self, path: str, mode: str = "r", buffering: int = -1, **kwargs: object) -> IO[Any]:
        fs, inner = _filesystem(path)
        return fs.open(inner, mode, **kwargs)  # type: ignore[no-any-return]

    def _get_local_path(self, path: str, force: bool = False, **kwargs: Any) -> str:
        self._check_kwargs(kwargs)
        scheme, rest = path.split("://", 1)
        local = os.path.join(
            get_cache_dir(), "fsspec", scheme, *[p for p in rest.split("/") if p not in ("", "..")]
        )
        if os.path.isfile(local) and not force:
            return local
        if is_offline() and scheme not in ("file", "local", "memory"):
            raise FileNotFoundError(f"{path} is not in the cache ({local}) and DETECTRON2_OFFLINE is set")
        fs, inner = _filesystem(path)
        os.makedirs(os.path.dirname(local), exist_ok=True)
        part = f"{local}.{os.getpid()}.part"
        try:
            fs.get_file(inner, part)
            os.replace(part, local)
        finally:
            if os.path.exists(part):
                os.remove(part)
        return local

    def _copy(self, src_path: str, dst_path: str, overwrite: bool = False, **kwargs: object) -> bool:
        self._check_kwargs(kwargs)
        fs, source = _filesystem(src_path)
        _, target = _filesystem(dst_path)
        _check_free(fs, target, overwrite)
        fs.copy(source, target)
        return True

    def _copy_from_local(
        self, local_path: str, dst_path: str, overwrite: bool = False, **kwargs: object
    ) -> bool:
        self._check_kwargs(kwargs)
        fs, target = _filesystem(dst_path)
        _check_free(fs, target, overwrite)
        fs.put_file(local_path, target)
        return True

    def _mv(self, src_path: str, dst_path: str, **kwargs: object) -> bool:
        self._check_kwargs(kwargs)
        fs, source = _filesystem(src_path)
        fs.mv(source, _filesystem(dst_path)[1])
        return True

    def _exists(self, path: str, **kwargs: object) -> bool:
        fs, inner = _filesystem(path)
        return bool(fs.exists(inner))

    def _isfile(self, path: str, **kwargs: object) -> bool:
        fs, inner = _filesystem(path)
        return bool(fs.isfile(inner))

    def _isdir(self, path: str, **kwargs: object) -> bool:
        fs, inner = _filesystem(path)
        return bool(fs.isdir(inner))

    def _ls(self, path: str, **kwargs: object) -> list[str]:
        fs, inner = _filesystem(path)
        return sorted(name.rstrip("/").rsplit("/", 1)[-1] for name in fs.ls(inner, detail=False))

    def _mkdirs(self, path: str, **kwargs: object) -> None:
        fs, inner = _filesystem(path)
        fs.makedirs(inner, exist_ok=True)

    def _rm(self, path: str, **kwargs: object) -> None:
        fs, inner = _filesystem(path)
        fs.rm_file(inner)


def _check_free(fs: Any, target: str, overwrite: bool) -> None:
    if not overwrite and fs.exists(target):
        raise FileExistsError(f"{target} exists; pass overwrite=True to replace it")
