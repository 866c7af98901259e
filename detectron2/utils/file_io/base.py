"""Path handlers: file operations for one kind of path."""

import logging
import os
import shutil
from typing import IO, Any
from urllib.parse import unquote

__all__ = ["NativePathHandler", "PathHandler"]


class PathHandler:
    """File operations for one kind of path (``https://…``, ``mystore://…``); subclass it to add a kind.

    A subclass defines its prefixes and the operations that it supports; the others raise ``NotImplementedError``.
    Unknown keyword arguments of an operation are logged, or refused after
    ``PathManager.set_strict_kwargs_checking(True)``.
    """

    _strict_kwargs_check = False

    def _get_supported_prefixes(self) -> list[str]:
        raise NotImplementedError(f"{type(self).__name__} must define its prefixes")

    def _check_kwargs(self, kwargs: dict[str, Any]) -> None:
        """Refuse or log keyword arguments that are left over."""
        if not kwargs:
            return
        text = f"{type(self).__name__} does not use the arguments {', '.join(sorted(kwargs))}"
        if self._strict_kwargs_check:
            raise ValueError(text)
        logging.getLogger(__name__).warning(text)

    def _cannot(self, what: str, path: str) -> NotImplementedError:
        return NotImplementedError(f"{type(self).__name__} cannot {what} {path}")

    def _open(self, path: str, mode: str = "r", buffering: int = -1, **kwargs: object) -> IO[Any]:
        raise self._cannot("open", path)

    def _get_local_path(self, path: str, force: bool = False, **kwargs: Any) -> str:
        raise self._cannot("create a local copy of", path)

    def _copy(self, src_path: str, dst_path: str, overwrite: bool = False, **kwargs: object) -> bool:
        raise self._cannot("copy", src_path)

    def _copy_from_local(
        self, local_path: str, dst_path: str, overwrite: bool = False, **kwargs: object
    ) -> bool:
        raise self._cannot("write", dst_path)

    def _mv(self, src_path: str, dst_path: str, **kwargs: object) -> bool:
        raise self._cannot("move", src_path)

    def _exists(self, path: str, **kwargs: object) -> bool:
        raise self._cannot("look for", path)

    def _isfile(self, path: str, **kwargs: object) -> bool:
        raise self._cannot("look for the file", path)

    def _isdir(self, path: str, **kwargs: object) -> bool:
        raise self._cannot("look for the folder", path)

    def _ls(self, path: str, **kwargs: object) -> list[str]:
        raise self._cannot("list", path)

    def _mkdirs(self, path: str, **kwargs: object) -> None:
        raise self._cannot("create the folder", path)

    def _rm(self, path: str, **kwargs: object) -> None:
        raise self._cannot("remove", path)

    def _symlink(self, src_path: str, dst_path: str, **kwargs: object) -> bool:
        raise self._cannot("link to", src_path)


class NativePathHandler(PathHandler):
    """Local files; also accepts ``file://``."""

    def _get_supported_prefixes(self) -> list[str]:
        return ["file://"]

    def _path(self, path: str | os.PathLike[str]) -> str:
        text = os.fspath(path)
        if text.startswith("file://"):
            text = unquote(text[len("file://") :])
        return text

    def _open(self, path: str, mode: str = "r", buffering: int = -1, **kwargs: Any) -> IO[Any]:
        if "b" not in mode:
            kwargs.setdefault("encoding", "utf-8")  # not the code page of the system
        return open(self._path(path), mode, buffering=buffering, **kwargs)

    def _get_local_path(self, path: str, force: bool = False, **kwargs: Any) -> str:
        self._check_kwargs(kwargs)
        return self._path(path)

    def _copy(self, src_path: str, dst_path: str, overwrite: bool = False, **kwargs: object) -> bool:
        self._check_kwargs(kwargs)
        target = self._path(dst_path)
        if os.path.exists(target) and not overwrite:
            raise FileExistsError(f"{target} exists; pass overwrite=True to replace it")
        shutil.copyfile(self._path(src_path), target)
        return True

    def _copy_from_local(
        self, local_path: str, dst_path: str, overwrite: bool = False, **kwargs: object
    ) -> bool:
        return self._copy(local_path, dst_path, overwrite, **kwargs)

    def _mv(self, src_path: str, dst_path: str, **kwargs: object) -> bool:
        self._check_kwargs(kwargs)
        if os.path.exists(self._path(dst_path)):
            raise FileExistsError(f"{dst_path} exists; remove it first")
        shutil.move(self._path(src_path), self._path(dst_path))
        return True

    def _exists(self, path: str, **kwargs: object) -> bool:
        self._check_kwargs(kwargs)
        return os.path.exists(self._path(path))

    def _isfile(self, path: str, **kwargs: object) -> bool:
        self._check_kwargs(kwargs)
        return os.path.isfile(self._path(path))

    def _isdir(self, path: str, **kwargs: object) -> bool:
        self._check_kwargs(kwargs)
        return os.path.isdir(self._path(path))

    def _ls(self, path: str, **kwargs: object) -> list[str]:
        self._check_kwargs(kwargs)
        return sorted(os.listdir(self._path(path)))

    def _mkdirs(self, path: str, **kwargs: object) -> None:
        self._check_kwargs(kwargs)
        os.makedirs(self._path(path), exist_ok=True)

    def _rm(self, path: str, **kwargs: object) -> None:
        self._check_kwargs(kwargs)
        os.remove(self._path(path))

    def _symlink(self, src_path: str, dst_path: str, **kwargs: object) -> bool:
        self._check_kwargs(kwargs)
        os.symlink(self._path(src_path), self._path(dst_path))
        return True
