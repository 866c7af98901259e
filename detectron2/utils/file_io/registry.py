"""The registry that chooses a handler by the prefix of a path."""

import os
from typing import IO, Any

from .base import NativePathHandler, PathHandler
from .fsspec_handler import FsspecHandler

__all__ = ["PathRegistry"]


class PathRegistry:
    """Reads and writes any path with the handler that is registered for its prefix.

    Without a registered prefix, paths with ``scheme://`` use fsspec, and others the local file system.
    """

    def __init__(self) -> None:
        self._handlers: dict[str, PathHandler] = {}
        self._native = NativePathHandler()
        self._strict = False
        self.register_handler(self._native)

    def register_handler(self, handler: PathHandler, allow_override: bool = False) -> None:
        """Add a handler for its prefixes.

        Raises:
            ValueError: if one of them has another handler, unless ``allow_override``.
        """
        for prefix in handler._get_supported_prefixes():
            if prefix in self._handlers and not allow_override:
                other = type(self._handlers[prefix]).__name__
                raise ValueError(
                    f"{prefix} already has the handler {other}; pass allow_override=True to replace it"
                )
            self._handlers[prefix] = handler
        handler._strict_kwargs_check = self._strict

    def set_strict_kwargs_checking(self, enable: bool) -> None:
        """Refuse unknown keyword arguments of handlers instead of logging them."""
        self._strict = enable
        for handler in self._handlers.values():
            handler._strict_kwargs_check = enable

    def set_logging(self, enable_logging: bool = True) -> None:
        """Do nothing: there is no event logging."""

    def _handler(self, path: str | os.PathLike[str]) -> PathHandler:
        text = os.fspath(path)
        matches = [p for p in self._handlers if text.startswith(p)]
        if matches:
            return self._handlers[max(matches, key=len)]
        if "://" in text:
            handler = self._handlers.setdefault(text.split("://")[0] + "://", FsspecHandler())
            handler._strict_kwargs_check = self._strict
            return handler
        return self._native

    def open(
        self, path: str | os.PathLike[str], mode: str = "r", buffering: int = -1, **kwargs: object
    ) -> IO[Any]:
        """Open a file, like the builtin ``open``; text is UTF-8 unless ``encoding`` says otherwise."""
        return self._handler(path)._open(os.fspath(path), mode, buffering=buffering, **kwargs)

    def get_local_path(self, path: str | os.PathLike[str], force: bool = False, **kwargs: object) -> str:
        """Return the path of a local copy; remote files are downloaded to the cache first.

        Args:
            path: any path or URL.
            force: download again even if the cache has it.
        """
        return self._handler(path)._get_local_path(os.fspath(path), force=force, **kwargs)

    def copy(self, src_path: str, dst_path: str, overwrite: bool = False, **kwargs: object) -> bool:
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

    def copy_from_local(
        self, local_path: str, dst_path: str, overwrite: bool = False, **kwargs: object
    ) -> bool:
        """Copy a local file to any writable path."""
        handler = self._handler(dst_path)
        return handler._copy_from_local(os.fspath(local_path), os.fspath(dst_path), overwrite, **kwargs)

    def mv(self, src_path: str, dst_path: str, **kwargs: object) -> bool:
        """Move a file within one kind of path.

        Raises:
            ValueError: if the two paths are of different kinds.
        """
        handler = self._handler(src_path)
        if handler is not self._handler(dst_path):
            raise ValueError(f"cannot move between kinds of paths: {src_path} to {dst_path}")
        return handler._mv(os.fspath(src_path), os.fspath(dst_path), **kwargs)

    def exists(self, path: str | os.PathLike[str], **kwargs: object) -> bool:
        """Return whether there is a file or folder."""
        return self._handler(path)._exists(os.fspath(path), **kwargs)

    def isfile(self, path: str | os.PathLike[str], **kwargs: object) -> bool:
        """Return whether there is a file."""
        return self._handler(path)._isfile(os.fspath(path), **kwargs)

    def isdir(self, path: str | os.PathLike[str], **kwargs: object) -> bool:
        """Return whether there is a folder."""
        return self._handler(path)._isdir(os.fspath(path), **kwargs)

    def ls(self, path: str | os.PathLike[str], **kwargs: object) -> list[str]:
        """Return the names in a folder, sorted."""
        return self._handler(path)._ls(os.fspath(path), **kwargs)

    def mkdirs(self, path: str | os.PathLike[str], **kwargs: object) -> None:
        """Create a folder and its parents if missing."""
        self._handler(path)._mkdirs(os.fspath(path), **kwargs)

    def mkdir(self, path: str | os.PathLike[str], **kwargs: object) -> None:
        """Create a folder, see :meth:`mkdirs`."""
        self.mkdirs(path, **kwargs)

    def rm(self, path: str | os.PathLike[str], **kwargs: object) -> None:
        """Remove a file."""
        self._handler(path)._rm(os.fspath(path), **kwargs)

    def symlink(self, src_path: str, dst_path: str, **kwargs: object) -> bool:
        """Make ``dst_path`` a link to ``src_path``."""
        return self._handler(src_path)._symlink(os.fspath(src_path), os.fspath(dst_path), **kwargs)
