"""Downloads over http(s): cached, resumed, checked against the hash in the file name."""

import contextlib
import hashlib
import logging
import os
import re
import time
from collections.abc import Iterator
from typing import IO, Any

from .base import PathHandler

__all__ = ["HTTPURLHandler", "get_cache_dir", "is_offline"]

logger = logging.getLogger(__name__)

# Hosts whose file names end in a hash even if it has digits only.
HASHING_HOSTS = ("dl.fbaipublicfiles.com", "download.pytorch.org")
CHUNK = 1 << 20  # bytes
TIMEOUT = 30  # seconds without any data
ATTEMPTS = 4


def get_cache_dir(cache_dir: str | None = None) -> str:
    """Folder of downloaded files: the argument, else ``$FVCORE_CACHE``, else ``~/.torch/iopath_cache``.

    It is the folder that Detectron2 programs have always used, so that nothing is downloaded twice.
    """
    return os.path.expanduser(cache_dir or os.environ.get("FVCORE_CACHE") or "~/.torch/iopath_cache")


def is_offline() -> bool:
    """Whether ``DETECTRON2_OFFLINE`` forbids the network."""
    return os.environ.get("DETECTRON2_OFFLINE", "").lower() not in ("", "0", "false", "no")


def hash_in_name(url: str) -> str | None:
    """The start of a content hash that a file name carries, as in ``model_final_f10217.pkl``; None if there is none.

    A run of 6 or more hexadecimal digits before the extension counts. Names such as ``model_0059999.pth`` only have
    digits; they count on hosts that are known to name their files by hash.
    """
    host, _, path = url.partition("://")[2].partition("/")
    found = re.search(r"[-_]([0-9a-f]{6,64})\.[A-Za-z0-9.]+$", path.split("?")[0])
    if not found:
        return None
    text = found[1]
    mixed = any(c.isdigit() for c in text) and any(c.isalpha() for c in text)
    return text if mixed or host in HASHING_HOSTS else None


def check_hash(path: str, url: str) -> None:
    """Compare the content of a file with the hash in its name: start of its MD5, SHA-1 or SHA-256.

    Raises:
        ValueError: if it is none of them.
    """
    expected = hash_in_name(url)
    if expected is None or os.environ.get("DETECTRON2_SKIP_HASH_CHECK"):
        return
    digests = [hashlib.md5(usedforsecurity=False), hashlib.sha1(usedforsecurity=False), hashlib.sha256()]
    with open(path, "rb") as f:
        while block := f.read(CHUNK):
            for d in digests:
                d.update(block)
    if not any(d.hexdigest().startswith(expected) for d in digests):
        raise ValueError(
            f"{url}: the content does not match the hash {expected} in its name (its MD5 starts with "
            f"{digests[0].hexdigest()[: len(expected)]}): the download is damaged, or the name carries no hash. "
            "In the second case set DETECTRON2_SKIP_HASH_CHECK=1."
        )


class HTTPURLHandler(PathHandler):
    """``http://`` and ``https://``: files are downloaded once and then read from the cache."""

    def __init__(self) -> None:
        self.cache_map: dict[str, str] = {}

    def _get_supported_prefixes(self) -> list[str]:
        return ["http://", "https://"]

    def _cached(self, url: str, cache_dir: str | None) -> str:
        """Place in the cache; the same layout as in earlier Detectron2 installations."""
        from urllib.parse import unquote, urlparse

        parts = [p for p in unquote(urlparse(url).path).split("/") if p not in ("", ".", "..")]
        if not parts:
            raise ValueError(f"{url} names no file")
        return os.path.join(get_cache_dir(cache_dir), *parts)

    def _get_local_path(
        self, path: str, force: bool = False, cache_dir: str | None = None, **kwargs: Any
    ) -> str:
        self._check_kwargs(kwargs)
        known = self.cache_map.get(path)
        if known and not force and cache_dir is None and os.path.isfile(known):
            return known
        local = self._cached(path, cache_dir)
        with _lock(local):
            if force or not os.path.isfile(local):
                if is_offline():
                    raise FileNotFoundError(
                        f"{path} is not in the cache ({local}) and DETECTRON2_OFFLINE is set; download it to that place"
                    )
                logger.info("downloading %s", path)
                download(path, local)
        self.cache_map[path] = local
        return local

    def _open(self, path: str, mode: str = "r", buffering: int = -1, **kwargs: Any) -> IO[Any]:
        if mode not in ("r", "rb", "rt"):
            raise ValueError(f"{path} can only be read, not opened with mode {mode!r}")
        cache_dir = kwargs.pop("cache_dir", None)
        return open(self._get_local_path(path, cache_dir=cache_dir), mode, buffering=buffering, **kwargs)

    def _exists(self, path: str, **kwargs: Any) -> bool:
        self._check_kwargs(kwargs)
        if os.path.isfile(self._cached(path, None)):
            return True
        if is_offline():
            return False
        import urllib.error
        import urllib.request

        try:
            request = urllib.request.Request(path, method="HEAD")
            with urllib.request.urlopen(request, timeout=TIMEOUT):
                return True
        except urllib.error.HTTPError:
            return False
        except OSError as e:
            raise _no_network(path, e) from e

    def _isfile(self, path: str, **kwargs: Any) -> bool:
        return self._exists(path, **kwargs)

    def _isdir(self, path: str, **kwargs: Any) -> bool:
        return False


def download(url: str, local: str) -> None:
    """Fetch ``url`` into the file ``local``; a part that an earlier try left is continued.

    Raises:
        FileNotFoundError: if the server has no such file.
        ConnectionError: if there is no network, or it broke off too often.
        ValueError: if the content does not match the hash in the name; nothing is kept then.
    """
    import urllib.error

    os.makedirs(os.path.dirname(local), exist_ok=True)
    part = local + ".part"
    for attempt in range(1, ATTEMPTS + 1):
        try:
            _fetch(url, part)
            break
        except urllib.error.HTTPError as e:
            if e.code == 416 and os.path.exists(part):  # the part does not belong to the file on the server
                os.remove(part)
            elif e.code in (404, 403, 410):
                raise FileNotFoundError(f"{url}: the server answers {e.code} {e.reason}") from e
            elif attempt == ATTEMPTS:
                raise ConnectionError(f"{url}: the server answers {e.code} {e.reason}") from e
        except OSError as e:
            if attempt == ATTEMPTS or _is_name_error(e):
                raise _no_network(url, e) from e
            logger.warning("download of %s broke off (%s); going on", url, e)
            time.sleep(0.2 * 2**attempt)
    try:
        check_hash(part, url)
    except ValueError:
        os.remove(part)
        raise
    os.replace(part, local)


def _fetch(url: str, part: str) -> None:
    """Append what is missing of ``url`` to the file ``part``."""
    import http.client
    import urllib.request

    have = os.path.getsize(part) if os.path.exists(part) else 0
    headers = {"User-Agent": "detectron2", **({"Range": f"bytes={have}-"} if have else {})}
    with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=TIMEOUT) as answer:
        resumed = have > 0 and answer.status == 206
        size = answer.headers.get("Content-Length")
        expected = (have if resumed else 0) + int(size) if size else None
        with open(part, "ab" if resumed else "wb") as f:
            try:
                while block := answer.read(CHUNK):
                    f.write(block)
            except http.client.HTTPException as e:
                raise ConnectionError(str(e)) from e
    got = os.path.getsize(part)
    if expected is not None and got != expected:
        raise ConnectionError(f"{got} of {expected} bytes came")


def _is_name_error(error: OSError) -> bool:
    """Whether a host name could not be resolved: trying again is of no use."""
    import socket

    return isinstance(getattr(error, "reason", error), socket.gaierror)


def _no_network(url: str, error: OSError) -> ConnectionError:
    return ConnectionError(
        f"cannot download {url}: {getattr(error, 'reason', error)}. Is there a network? Without one, put the file into "
        f"the cache ({get_cache_dir()}) beforehand, or name a local file instead."
    )


@contextlib.contextmanager
def _lock(local: str) -> Iterator[None]:
    """Let one process at a time download to ``local``; others wait and then find it there."""
    if os.path.isfile(local):
        yield
        return
    os.makedirs(os.path.dirname(local), exist_ok=True)
    try:
        import fcntl
    except ImportError:  # Windows: two processes may download the same file twice
        yield
        return
    with open(local + ".lock", "w") as f:
        fcntl.flock(f, fcntl.LOCK_EX)
        try:
            yield
        finally:
            with contextlib.suppress(OSError):
                os.remove(local + ".lock")
