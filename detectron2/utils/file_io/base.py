"""Path handlers and the table that picks one by the prefix of a path."""

import os
import shutil
from typing import IO, Any

__all__ = ["NativePathHandler", "PathHandler", "PathRegistry"]


class PathHandler:
    """What a kind of path (``https://…``, ``mystore://…``) can do; subclass it to teach ``PathManager`` a new kind.

    A subclass gives its prefixes and overrides the operations that it has; the others raise
    ``NotImplementedError``. Keyword arguments that an operation does not know are reported once, or refused if
    ``PathManager.set_strict_kwargs_checking(True)``.
    """

    _strict_kwargs_check = False

    def _get_supported_prefixes(self) -> list[str]:
        raise NotImplementedError(f"{type(self).__name__} must say which prefixes it serves")

    def _check_kwargs(self, kwargs: dict[str, Any]) -> None:
        """Refuse, or report, keyword arguments that nothing used."""
        if not kwargs:
            return
        text = f"{type(self).__name__} has no use for the arguments {', '.join(sorted(kwargs))}"
        if self._strict_kwargs_check:
            raise ValueError(text)
        import logging

        logging.getLogger(__name__).warning(text)

    def _cannot(self, what: str, path: str) -> NotImplementedError:
        return NotImplementedError(f"{type(self).__name__} cannot {what} {path}")

    def _open(self, path: str, mode: str = "r", buffering: int = -1, **kwargs: Any) -> IO[Any]:
        raise self._cannot("open", path)

    def _get_local_path(self, path: str, force: bool = False, **kwargs: Any) -> str:
        raise self._cannot("make a local copy of", path)

    def _copy(self, src_path: str, dst_path: str, overwrite: bool = False, **kwargs: Any) -> bool:
        raise self._cannot("copy", src_path)

    def _copy_from_local(
        self, local_path: str, dst_path: str, overwrite: bool = False, **kwargs: Any
    ) -> bool:
        raise self._cannot("write", dst_path)

    def _mv(self, src_path: str, dst_path: str, **kwargs: Any) -> bool:
        raise self._cannot("move", src_path)

    def _exists(self, path: str, **kwargs: Any) -> bool:
        raise self._cannot("look for", path)

    def _isfile(self, path: str, **kwargs: Any) -> bool:
        raise self._cannot("look for the file", path)

    def _isdir(self, path: str, **kwargs: Any) -> bool:
        raise self._cannot("look for the folder", path)

    def _ls(self, path: str, **kwargs: Any) -> list[str]:
        raise self._cannot("list", path)

    def _mkdirs(self, path: str, **kwargs: Any) -> None:
        raise self._cannot("make the folder", path)

    def _rm(self, path: str, **kwargs: Any) -> None:
        raise self._cannot("remove", path)

    def _symlink(self, src_path: str, dst_path: str, **kwargs: Any) -> bool:
        raise self._cannot("link to", src_path)


class NativePathHandler(PathHandler):
    """Files of this machine; also understands ``file://``."""

    def _get_supported_prefixes(self) -> list[str]:
        return ["file://"]

    def _path(self, path: str | os.PathLike[str]) -> str:
        text = os.fspath(path)
        if text.startswith("file://"):
            from urllib.parse import unquote

            text = unquote(text[len("file://") :])
        return text

    def _open(self, path: str, mode: str = "r", buffering: int = -1, **kwargs: Any) -> IO[Any]:
        return open(self._path(path), mode, buffering=buffering, **kwargs)

    def _get_local_path(self, path: str, force: bool = False, **kwargs: Any) -> str:
        self._check_kwargs(kwargs)
        return self._path(path)

    def _copy(self, src_path: str, dst_path: str, overwrite: bool = False, **kwargs: Any) -> bool:
        self._check_kwargs(kwargs)
        target = self._path(dst_path)
        if os.path.exists(target) and not overwrite:
            raise FileExistsError(f"{target} exists; pass overwrite=True to replace it")
        shutil.copyfile(self._path(src_path), target)
        return True

    def _copy_from_local(
        self, local_path: str, dst_path: str, overwrite: bool = False, **kwargs: Any
    ) -> bool:
        return self._copy(local_path, dst_path, overwrite, **kwargs)

    def _mv(self, src_path: str, dst_path: str, **kwargs: Any) -> bool:
        self._check_kwargs(kwargs)
        if os.path.exists(self._path(dst_path)):
            raise FileExistsError(f"{dst_path} exists; remove it before something is moved there")
        shutil.move(self._path(src_path), self._path(dst_path))
        return True

    def _exists(self, path: str, **kwargs: Any) -> bool:
        self._check_kwargs(kwargs)
        return os.path.exists(self._path(path))

    def _isfile(self, path: str, **kwargs: Any) -> bool:
        self._check_kwargs(kwargs)
        return os.path.isfile(self._path(path))

    def _isdir(self, path: str, **kwargs: Any) -> bool:
        self._check_kwargs(kwargs)
        return os.path.isdir(self._path(path))

    def _ls(self, path: str, **kwargs: Any) -> list[str]:
        self._check_kwargs(kwargs)
        return sorted(os.listdir(self._path(path)))

    def _mkdirs(self, path: str, **kwargs: Any) -> None:
        self._check_kwargs(kwargs)
        os.makedirs(self._path(path), exist_ok=True)

    def _rm(self, path: str, **kwargs: Any) -> None:
        self._check_kwargs(kwargs)
        os.remove(self._path(path))

    def _symlink(self, src_path: str, dst_path: str, **kwargs: Any) -> bool:
        self._check_kwargs(kwargs)
        os.symlink(self._path(src_path), self._path(dst_path))
        return True


class PathRegistry:
    """Reads and writes any path by the handler that is registered for its prefix.

    Without a registered prefix, a path with ``scheme://`` goes to fsspec and any other to the local file system.
    """

    def __init__(self) -> None:
        self._handlers: dict[str, PathHandler] = {}
        self._native = NativePathHandler()
        self._strict = False
        self.register_handler(self._native)

    def register_handler(self, handler: PathHandler, allow_override: bool = False) -> None:
        """Add a handler for its prefixes.

        Raises:
            ValueError: if another handler serves one of them, unless ``allow_override``.
        """
        for prefix in handler._get_supported_prefixes():
            if prefix in self._handlers and not allow_override:
                other = type(self._handlers[prefix]).__name__
                raise ValueError(f"{prefix} is served by {other}; pass allow_override=True to replace it")
            self._handlers[prefix] = handler
        handler._strict_kwargs_check = self._strict

    def set_strict_kwargs_checking(self, enable: bool) -> None:
        """Refuse keyword arguments that a handler has no use for, instead of reporting them in the log."""
        self._strict = enable
        for handler in self._handlers.values():
            handler._strict_kwargs_check = enable

    def set_logging(self, enable_logging: bool = True) -> None:
        """Do nothing: there is no event logging to switch."""

    def _handler(self, path: str | os.PathLike[str]) -> PathHandler:
        text = os.fspath(path)
        matches = [p for p in self._handlers if text.startswith(p)]
        if matches:
            return self._handlers[max(matches, key=len)]
        if "://" in text:
            from .fsspec_handler import FsspecHandler

            handler = self._handlers.setdefault(text.split("://")[0] + "://", FsspecHandler())
            handler._strict_kwargs_check = self._strict
            return handler
        return self._native

    def open(
        self, path: str | os.PathLike[str], mode: str = "r", buffering: int = -1, **kwargs: Any
    ) -> IO[Any]:
        """Open a file, like the builtin ``open``."""
        return self._handler(path)._open(os.fspath(path), mode, buffering=buffering, **kwargs)

    def get_local_path(self, path: str | os.PathLike[str], force: bool = False, **kwargs: Any) -> str:
        """Path of a local copy; what is remote is downloaded into the cache first.

        Args:
            path: any path or URL.
            force: download again even if the cache has it.
        """
        return self._handler(path)._get_local_path(os.fspath(path), force=force, **kwargs)

    def copy(self, src_path: str, dst_path: str, overwrite: bool = False, **kwargs: Any) -> bool:
        """Copy a file within one kind of path.

        Raises:
            ValueError: if the two paths are of different kinds.
        """
        handler = self._handler(src_path)
        if handler is not self._handler(dst_path):
            raise ValueError(
                f"cannot copy between kinds of paths: {src_path} to {dst_path}; see copy_from_local"
            )
        return handler._copy(os.fspath(src_path), os.fspath(dst_path), overwrite, **kwargs)

    def copy_from_local(self, local_path: str, dst_path: str, overwrite: bool = False, **kwargs: Any) -> bool:
        """Copy a local file to any path that can be written."""
        handler = self._handler(dst_path)
        return handler._copy_from_local(os.fspath(local_path), os.fspath(dst_path), overwrite, **kwargs)

    def mv(self, src_path: str, dst_path: str, **kwargs: Any) -> bool:
        """Move a file within one kind of path.

        Raises:
            ValueError: if the two paths are of different kinds.
        """
        handler = self._handler(src_path)
        if handler is not self._handler(dst_path):
            raise ValueError(f"cannot move between kinds of paths: {src_path} to {dst_path}")
        return handler._mv(os.fspath(src_path), os.fspath(dst_path), **kwargs)

    def exists(self, path: str | os.PathLike[str], **kwargs: Any) -> bool:
        """Whether there is a file or folder."""
        return self._handler(path)._exists(os.fspath(path), **kwargs)

    def isfile(self, path: str | os.PathLike[str], **kwargs: Any) -> bool:
        """Whether there is a file."""
        return self._handler(path)._isfile(os.fspath(path), **kwargs)

    def isdir(self, path: str | os.PathLike[str], **kwargs: Any) -> bool:
        """Whether there is a folder."""
        return self._handler(path)._isdir(os.fspath(path), **kwargs)

    def ls(self, path: str | os.PathLike[str], **kwargs: Any) -> list[str]:
        """Names in a folder, sorted."""
        return self._handler(path)._ls(os.fspath(path), **kwargs)

    def mkdirs(self, path: str | os.PathLike[str], **kwargs: Any) -> None:
        """Make a folder and those above it; nothing happens if it is there."""
        self._handler(path)._mkdirs(os.fspath(path), **kwargs)

    def mkdir(self, path: str | os.PathLike[str], **kwargs: Any) -> None:
        """The same as :meth:`mkdirs`."""
        self.mkdirs(path, **kwargs)

    def rm(self, path: str | os.PathLike[str], **kwargs: Any) -> None:
        """Remove a file."""
        self._handler(path)._rm(os.fspath(path), **kwargs)

    def symlink(self, src_path: str, dst_path: str, **kwargs: Any) -> bool:
        """Make ``dst_path`` a link to ``src_path``."""
        return self._handler(src_path)._symlink(os.fspath(src_path), os.fspath(dst_path), **kwargs)
