"""Download a URL to a file, resuming after interruptions and checking the result.

A server may stop, change the file between two attempts, or send something else. A response is therefore kept only if
its range, its length and the hash in its name match, and a partial download is resumed only if the server can confirm
that the file is unchanged (``ETag`` with ``If-Range``, RFC 9110) or its name has a hash.
"""

import contextlib
import gzip
import hashlib
import http.client
import logging
import os
import re
import shutil
import socket
import time
import urllib.error
import urllib.request
from typing import IO
from urllib.parse import urlparse

__all__ = ["DownloadError", "check_hash", "download", "exists", "hash_in_name"]

logger = logging.getLogger(__name__)

# Hosts whose file names end in a hash, even if it consists of digits only.
HASHING_HOSTS = ("dl.fbaipublicfiles.com", "download.pytorch.org")
CHUNK = 1 << 20  # bytes
TIMEOUT = 30  # seconds without any data
ATTEMPTS = 4
LONGEST_PAUSE = 60  # maximum seconds to wait if a server asks for it
MOST_BYTES = 64 << 30  # of one file: far more than any weights, but finite
_PAGE = re.compile(rb"\s*(<!doctype html|<html)", re.IGNORECASE)


class DownloadError(ConnectionError, ValueError):
    """A server's response is not the requested file."""


class _SameKindRedirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects to http(s) only, and from https to https only."""

    def redirect_request(  # type: ignore[no-untyped-def]
        self, req, fp, code, msg, headers, newurl
    ):
        allowed = ("https",) if urlparse(req.full_url).scheme == "https" else ("http", "https")
        if urlparse(newurl).scheme not in allowed:
            fp.close()
            raise DownloadError(
                f"{req.full_url} redirects to {newurl}; only {' and '.join(allowed)} is followed"
            )
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _opener() -> urllib.request.OpenerDirector:
    """Create an opener without urllib's default handlers for ``ftp:``, ``file:`` and ``data:``."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        urllib.request.HTTPHandler(),
        urllib.request.HTTPSHandler(),
        _SameKindRedirects(),
        urllib.request.HTTPErrorProcessor(),
        urllib.request.HTTPDefaultErrorHandler(),
    ):
        opener.add_handler(handler)
    return opener


def exists(url: str) -> bool:
    """Ask the server whether it has a file.

    Raises:
        ConnectionError: if the server cannot be reached.
    """
    try:
        with _opener().open(urllib.request.Request(url, method="HEAD"), timeout=TIMEOUT):
            return True
    except urllib.error.HTTPError as e:
        e.close()
        return False
    except OSError as e:
        raise _unreachable(url, e) from e


def hash_in_name(url: str) -> str | None:
    """Return the prefix of a content hash in a file name such as ``model_final_f10217.pkl``; None if there is none.

    This is a run of 6 or more hexadecimal digits before the extension. Decimal digits only, as in
    ``model_0059999.pth``, are a hash only on hosts known to name files by hash.
    """
    host, _, path = url.partition("://")[2].partition("/")
    found = re.search(r"[-_]([0-9a-f]{6,64})\.[A-Za-z0-9.]+$", path.split("?")[0])
    if not found:
        return None
    text = found[1]
    mixed = any(c.isdigit() for c in text) and any(c.isalpha() for c in text)
    return text if mixed or host in HASHING_HOSTS else None


def check_hash(path: str, url: str) -> None:
    """Check that the hash in the name of a file is a prefix of its MD5, SHA-1 or SHA-256.

    Raises:
        ValueError: if it is not.
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
            f"{digests[0].hexdigest()[: len(expected)]}): the download is damaged, or the name contains no hash. "
            "In the second case set DETECTRON2_SKIP_HASH_CHECK=1."
        )


def download(url: str, local: str, cache: str) -> None:
    """Download ``url`` to the file ``local``, resuming an earlier partial download if that is safe.

    Args:
        url: http(s) URL.
        local: file to write; it appears only once it is complete.
        cache: folder that errors name as the place for files downloaded by hand.

    Raises:
        FileNotFoundError: if the server has no such file.
        ConnectionError: if there is no network, the download was interrupted too often, or the response is not the file.
        ValueError: if the content does not match the hash in the name; nothing is kept.
        OSError: if the disk is full.
    """
    os.makedirs(os.path.dirname(local), exist_ok=True)
    part = _Part(url, local + ".part")
    for attempt in range(1, ATTEMPTS + 1):
        pause = 0.2 * 2**attempt
        resuming = part.size > 0
        try:
            part.fetch()
            break
        except urllib.error.HTTPError as e:
            e.close()
            problem = f"the server answers {e.code} {e.reason}"
            if e.code == 416 and resuming:  # the partial download does not belong to the file on the server
                part.remove()
                continue
            if e.code in (401, 403, 404, 410):
                raise FileNotFoundError(f"{url}: {problem}") from e
            if attempt == ATTEMPTS or not (e.code >= 500 or e.code in (408, 425, 429)):
                raise ConnectionError(f"{url}: {problem}") from e
            after = e.headers.get("Retry-After", "")
            pause = min(int(after), LONGEST_PAUSE) if after.isdecimal() else pause
        except DownloadError:
            part.remove()
            if resuming:
                continue
            raise
        except OSError as e:
            if e.errno is not None and not isinstance(e, (ConnectionError, TimeoutError)):
                raise  # an error of the disk, not the network
            if attempt == ATTEMPTS or isinstance(getattr(e, "reason", e), socket.gaierror):
                raise _unreachable(url, e, cache) from e
            problem = str(e)
        logger.warning("download of %s was interrupted (%s); retrying in %.1f s", url, problem, pause)
        time.sleep(pause)
    else:
        raise ConnectionError(f"{url}: the download was interrupted {ATTEMPTS} times")
    try:
        part.finish()
    except ValueError:
        part.remove()
        raise
    os.replace(part.path, local)
    part.remove()


class _Part:
    """A partial download, with the ETag that identifies the file on the server.

    Args:
        url: of the file.
        path: of the partial download; a strong ETag is stored in a file beside it.
    """

    def __init__(self, url: str, path: str) -> None:
        self.url = url
        self.path = path
        self._tag_path = path + ".etag"
        self._packed = False

    @property
    def size(self) -> int:
        return os.path.getsize(self.path) if os.path.exists(self.path) else 0

    def remove(self) -> None:
        """Remove the partial download."""
        for path in (self.path, self._tag_path):
            with contextlib.suppress(FileNotFoundError):
                os.remove(path)

    def _tag(self) -> str:
        with contextlib.suppress(OSError, UnicodeDecodeError), open(self._tag_path, encoding="ascii") as f:
            return f.read()
        return ""

    def fetch(self) -> None:
        """Download the rest of the file; raise if the response is something else."""
        have, tag = self.size, self._tag()
        if have and not tag and hash_in_name(self.url) is None:
            have = 0  # the file may have changed
        headers = {"User-Agent": "detectron2", "Accept-Encoding": "identity"}
        if have:
            headers["Range"] = f"bytes={have}-"
            if tag:
                headers["If-Range"] = tag
        request = urllib.request.Request(self.url, headers=headers)
        with _opener().open(request, timeout=TIMEOUT) as answer:
            resumed = bool(have) and answer.status == 206
            total = self._expected(answer, have if resumed else 0)
            self._packed = self._encoding(answer) == "gzip"
            if not resumed:
                self._keep_tag(answer)
            self._copy(answer, resumed, total)

    def _expected(self, answer: http.client.HTTPResponse, start: int) -> int | None:
        """Return the size of the whole file according to the response; None if it does not say."""
        length = answer.headers.get("Content-Length")
        if length is not None and not length.isdecimal():
            raise DownloadError(f"{self.url}: the server says Content-Length: {length}")
        total = start + int(length) if length is not None else None
        if answer.status == 206:
            found = re.fullmatch(r"bytes (\d+)-(\d+)/(\d+|\*)", answer.headers.get("Content-Range", ""))
            whole = found is not None and (found[3] == "*" or int(found[2]) + 1 == int(found[3]))
            if not start or found is None or int(found[1]) != start or not whole:
                came = answer.headers.get("Content-Range", "none")
                raise DownloadError(f"{self.url}: requested the bytes from {start} on, got the range {came}")
        if total is not None and total > MOST_BYTES:
            raise DownloadError(f"{self.url}: {total:,} bytes are more than the maximum of {MOST_BYTES:,}")
        free = shutil.disk_usage(os.path.dirname(self.path)).free
        if total is not None and total - start > free:
            raise OSError(
                28, f"disk full: {self.url} needs {total - start:,} bytes, {free:,} are free", self.path
            )
        return total

    def _encoding(self, answer: http.client.HTTPResponse) -> str:
        encoding = answer.headers.get("Content-Encoding", "identity").strip().lower()
        if encoding not in ("identity", "gzip", ""):
            raise DownloadError(
                f"{self.url}: the server uses the encoding {encoding!r}, which was not requested"
            )
        return encoding

    def _keep_tag(self, answer: http.client.HTTPResponse) -> None:
        tag = answer.headers.get("ETag", "")
        if tag.startswith('"') and not self._packed:
            with open(self._tag_path, "w", encoding="ascii", errors="ignore") as f:
                f.write(tag)
        else:  # a weak tag does not guarantee identical bytes
            with contextlib.suppress(FileNotFoundError):
                os.remove(self._tag_path)

    def _copy(self, answer: IO[bytes], resumed: bool, total: int | None) -> None:
        with open(self.path, "ab" if resumed else "wb") as f:
            try:
                while block := answer.read(CHUNK):
                    f.write(block)
                    if f.tell() > (MOST_BYTES if total is None else total):
                        raise DownloadError(f"{self.url}: received more than {total or MOST_BYTES:,} bytes")
            except http.client.HTTPException as e:
                raise ConnectionError(f"{type(e).__name__}: {e}") from e
        if total is not None and self.size != total:
            raise ConnectionError(f"received {self.size} of {total} bytes")

    def finish(self) -> None:
        """Unpack the complete file if needed, and check it.

        Raises:
            ValueError: if it is empty, a web page under another name, or does not match the hash in its name.
        """
        if self._packed:
            _unpack(self.path, self.url)
        with open(self.path, "rb") as f:
            start = f.read(256)
        if not start:
            raise DownloadError(f"{self.url}: the response is empty")
        suffix = os.path.splitext(urlparse(self.url).path)[1].lower()
        if _PAGE.match(start.removeprefix(b"\xef\xbb\xbf")) and suffix not in (".html", ".htm", ".xhtml"):
            raise DownloadError(
                f"{self.url}: received a web page instead of the file, perhaps a login page; download the file in a "
                "browser and give the path of the local copy"
            )
        check_hash(self.path, self.url)


def _unpack(path: str, url: str) -> None:
    """Replace a gzip file by its content."""
    unpacked = path + ".unpacked"
    try:
        with gzip.open(path, "rb") as packed, open(unpacked, "wb") as f:
            while block := packed.read(CHUNK):
                f.write(block)
                if f.tell() > MOST_BYTES:
                    raise DownloadError(f"{url}: more than {MOST_BYTES:,} bytes after unpacking")
        os.replace(unpacked, path)
    except (gzip.BadGzipFile, EOFError) as e:
        raise DownloadError(f"{url}: the server claims gzip, but it cannot be unpacked: {e}") from e
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.remove(unpacked)


def _unreachable(url: str, error: OSError, cache: str = "") -> ConnectionError:
    place = f"put the file into the cache ({cache}) beforehand, or " if cache else ""
    return ConnectionError(
        f"cannot download {url}: {getattr(error, 'reason', error)}. Is there a network? Without one, {place}"
        "use a local file instead."
    )
