"""Files from anywhere: local paths, a real HTTP server, fsspec, the cache."""

import gzip
import hashlib
import os
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from detectron2.utils.file_io import Detectron2Handler, PathHandler, PathManager, get_cache_dir
from detectron2.utils.file_io import download as downloads
from detectron2.utils.file_io.download import hash_in_name
from detectron2.utils.file_io.http import HTTPURLHandler, place_in_cache
from detectron2.utils.file_io.registry import PathRegistry

CONTENT = bytes(range(256)) * 40


class Server(BaseHTTPRequestHandler):
    """Serves CONTENT under every name but ``missing``; ``broken`` breaks off in the first answer.

    ``tag`` is the ETag, None for none; ``answer``, if set, answers instead.
    """

    requests: list[tuple[str, str | None]] = []
    broken: set[str] = set()
    tag: str | None = '"one"'
    answer: Callable[["Server"], None] | None = None

    def log_message(self, *args: Any) -> None:
        pass

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def _answer(self, body: bool) -> None:
        span = self.headers.get("Range")
        Server.requests.append((self.path, span))
        if Server.answer is not None:
            Server.answer(self)
            return
        if "missing" in self.path:
            self.send_error(404)
            return
        start = int(span[len("bytes=") : -1]) if span else 0
        if start >= len(CONTENT):
            self.send_error(416)
            return
        if self.headers.get("If-Range", Server.tag) != Server.tag:
            span, start = None, 0
        self.send_response(206 if span else 200)
        self.send_header("Content-Length", str(len(CONTENT) - start))
        if span:
            self.send_header("Content-Range", f"bytes {start}-{len(CONTENT) - 1}/{len(CONTENT)}")
        if Server.tag is not None:
            self.send_header("ETag", Server.tag)
        self.end_headers()
        if not body:
            return
        if self.path in Server.broken:
            Server.broken.discard(self.path)
            self.wfile.write(CONTENT[start : start + 1000])
            self.close_connection = True
            return
        self.wfile.write(CONTENT[start:])


@pytest.fixture
def url() -> Iterator[str]:
    Server.requests, Server.broken, Server.tag, Server.answer = [], set(), '"one"', None
    server = ThreadingHTTPServer(("127.0.0.1", 0), Server)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FVCORE_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("DETECTRON2_OFFLINE", raising=False)
    return tmp_path / "cache"


@pytest.fixture
def manager() -> PathRegistry:
    made = PathRegistry()
    made.register_handler(HTTPURLHandler())
    return made


def test_local_files(tmp_path: Path) -> None:
    path = str(tmp_path / "a" / "b.txt")
    PathManager.mkdirs(os.path.dirname(path))
    with PathManager.open(path, "w") as f:
        f.write("x")
    with PathManager.open(f"file://{path}") as f:
        assert f.read() == "x"
    assert PathManager.isfile(path)
    assert PathManager.isdir(tmp_path)
    assert PathManager.ls(str(tmp_path / "a")) == ["b.txt"]
    assert PathManager.get_local_path(path) == path
    PathManager.copy(path, path + "2")
    with pytest.raises(FileExistsError, match="overwrite"):
        PathManager.copy(path, path + "2")
    assert PathManager.copy_from_local(path, path + "2", overwrite=True)
    PathManager.mv(path + "2", path + "3")
    PathManager.symlink(path, path + "4")
    assert PathManager.exists(path + "4")
    PathManager.rm(path)
    assert not PathManager.exists(path)


def test_download_is_cached(cache: Path, url: str, manager: PathRegistry) -> None:
    local = manager.get_local_path(f"{url}/dir/file.bin")
    place = cache / "http" / url.removeprefix("http://").replace(":", "_") / "dir"
    assert local == str(place / "file.bin")
    assert Path(local).read_bytes() == CONTENT
    with manager.open(f"{url}/dir/file.bin", "rb") as f:
        assert f.read() == CONTENT
    assert len(Server.requests) == 1
    manager.get_local_path(f"{url}/dir/file.bin", force=True)
    assert len(Server.requests) == 2
    assert os.listdir(place) == ["file.bin"]
    assert manager.exists(f"{url}/other")
    assert not manager.exists(f"{url}/missing")
    assert not manager.isdir(f"{url}/dir")


def test_broken_download_is_continued(cache: Path, url: str, manager: PathRegistry) -> None:
    Server.broken.add("/file.bin")
    assert Path(manager.get_local_path(f"{url}/file.bin")).read_bytes() == CONTENT
    assert Server.requests == [("/file.bin", None), ("/file.bin", "bytes=1000-")]


def test_part_of_an_earlier_process_is_continued(cache: Path, url: str, manager: PathRegistry) -> None:
    left_part(cache, f"{url}/file.bin", CONTENT[:77], tag='"one"')
    assert Path(manager.get_local_path(f"{url}/file.bin")).read_bytes() == CONTENT
    assert Server.requests == [("/file.bin", "bytes=77-")]


def left_part(cache: Path, url: str, content: bytes, tag: str = "") -> None:
    """What an earlier process left behind when it was killed."""
    part = cache.joinpath(*place_in_cache(url)[:-1], place_in_cache(url)[-1] + ".part")
    part.parent.mkdir(parents=True)
    part.write_bytes(content)
    if tag:
        Path(f"{part}.etag").write_text(tag)


@pytest.mark.parametrize("tag", ["", '"older"'])
def test_part_of_a_file_that_may_have_changed_is_not_continued(
    cache: Path, url: str, manager: PathRegistry, tag: str
) -> None:
    left_part(cache, f"{url}/file.bin", b"x" * 77, tag=tag)
    assert Path(manager.get_local_path(f"{url}/file.bin")).read_bytes() == CONTENT


def test_part_that_does_not_belong_is_thrown_away(cache: Path, url: str, manager: PathRegistry) -> None:
    left_part(cache, f"{url}/file.bin", CONTENT + b"more", tag='"one"')
    assert Path(manager.get_local_path(f"{url}/file.bin")).read_bytes() == CONTENT


@pytest.mark.parametrize("digest", ["md5", "sha1", "sha256"])
def test_hash_in_the_name_is_checked(cache: Path, url: str, manager: PathRegistry, digest: str) -> None:
    good = hashlib.new(digest, CONTENT).hexdigest()[:10]
    assert manager.get_local_path(f"{url}/model_final_{good}.pkl")
    with pytest.raises(ValueError, match="does not match the hash 0123abcd"):
        manager.get_local_path(f"{url}/model-0123abcd.pth")
    assert not [f for f in cache.rglob("*") if "0123abcd" in f.name]


def test_what_counts_as_a_hash() -> None:
    zoo = "https://dl.fbaipublicfiles.com/detectron2/x/137849600"
    assert hash_in_name(f"{zoo}/model_final_f10217.pkl") == "f10217"
    assert hash_in_name(f"{zoo}/model_final_280758.pkl") == "280758"
    assert hash_in_name("https://e.org/model_0059999.pth") is None
    assert hash_in_name("https://e.org/R-50.pkl") is None
    assert hash_in_name("https://e.org/facade_decade.pkl") is None
    assert hash_in_name("https://e.org/resnet50-0676ba61.pth?x=1") == "0676ba61"


def test_errors_of_the_network(
    cache: Path, url: str, manager: PathRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(FileNotFoundError, match="404"):
        manager.get_local_path(f"{url}/missing.bin")
    monkeypatch.setattr(downloads, "time", SimpleNamespace(sleep=lambda s: None))
    with pytest.raises(ConnectionError, match="Is there a network"):
        manager.get_local_path("http://127.0.0.1:9/file.bin")
    with pytest.raises(ConnectionError, match="Is there a network"):
        manager.get_local_path("http://no-such-host.invalid/file.bin")


def test_offline(cache: Path, url: str, manager: PathRegistry, monkeypatch: pytest.MonkeyPatch) -> None:
    manager.get_local_path(f"{url}/there.bin")
    monkeypatch.setenv("DETECTRON2_OFFLINE", "1")
    fresh = PathRegistry()
    fresh.register_handler(HTTPURLHandler())
    assert fresh.exists(f"{url}/there.bin")
    assert fresh.get_local_path(f"{url}/there.bin")
    assert not fresh.exists(f"{url}/other.bin")
    with pytest.raises(FileNotFoundError, match="DETECTRON2_OFFLINE"):
        fresh.get_local_path(f"{url}/other.bin")


def test_urls_cannot_leave_the_cache(cache: Path, url: str, manager: PathRegistry) -> None:
    local = manager.get_local_path(f"{url}/%2e%2e/%2e%2e/file.bin")
    assert Path(local).parent.parent == cache / "http"


def test_each_address_has_its_own_place() -> None:
    zoo = "https://dl.fbaipublicfiles.com/detectron2/x/model_final_f10217.pkl"
    assert place_in_cache(zoo) == ["detectron2", "x", "model_final_f10217.pkl"]
    urls = [
        zoo,
        zoo.replace("https", "http"),
        zoo + "?v=1",
        zoo + "?v=2",
        "https://a.org/w.pkl",
        "https://b.org/w.pkl",
        "https://b.org:8443/w.pkl",
        "http://b.org/w.pkl",
        "https://b.org/x/../w.pkl",
        "https://b.org/x%2Fw.pkl",
        "https://b.org/x/w.pkl",
        f"https://b.org/{'l' * 300}.pkl",
        f"https://b.org/{'l' * 301}.pkl",
    ]
    places = [tuple(place_in_cache(u)) for u in urls]
    assert len(set(places)) == len(urls)
    assert all(place[-1].endswith(".pkl") and len(place[-1]) < 200 for place in places)
    with pytest.raises(ValueError, match="names no file"):
        place_in_cache("https://a.org/")


def give(server: Server, body: bytes, code: int = 200, length: str | None = None, **headers: str) -> None:
    server.send_response(code)
    server.send_header("Content-Length", str(len(body)) if length is None else length)
    for name, value in headers.items():
        server.send_header(name.replace("_", "-"), value)
    server.end_headers()
    server.wfile.write(body)


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        pytest.param(lambda s: give(s, b""), "empty", id="empty"),
        pytest.param(lambda s: give(s, CONTENT, length="abc"), "Content-Length: abc", id="length"),
        pytest.param(lambda s: give(s, CONTENT, length="-1"), "Content-Length: -1", id="negative length"),
        pytest.param(lambda s: give(s, b"\n<!DOCTYPE html><p>Log in"), "web page", id="login page"),
        pytest.param(lambda s: give(s, CONTENT, Content_Encoding="br"), "'br'", id="encoding"),
        pytest.param(lambda s: give(s, CONTENT, Content_Encoding="gzip"), "unpacked", id="not gzip"),
        pytest.param(
            lambda s: give(s, CONTENT, 206, Content_Range="bytes 0-9/10"), "range", id="unasked range"
        ),
        pytest.param(lambda s: give(s, b"", 302, Location="ftp://127.0.0.1/x.pkl"), "redirects", id="ftp"),
        pytest.param(lambda s: give(s, b"", 302, Location="file:///etc/hosts"), "not allowed", id="file"),
        pytest.param(lambda s: give(s, CONTENT, length=str(1 << 50)), "than the maximum", id="endless"),
    ],
)
def test_wrong_answers_are_errors_and_not_kept(
    cache: Path, url: str, manager: PathRegistry, answer: Callable[[Server], None], says: str
) -> None:
    Server.answer = answer
    for _ in range(2):
        with pytest.raises(ConnectionError, match=says) as error:
            manager.get_local_path(f"{url}/weights.pkl")
        assert url in str(error.value)
    assert not [p for p in cache.rglob("*") if p.is_file() and p.suffix != ".lock"]
    Server.answer = None
    assert Path(manager.get_local_path(f"{url}/weights.pkl")).read_bytes() == CONTENT


def test_a_packed_answer_is_unpacked(cache: Path, url: str, manager: PathRegistry) -> None:
    Server.answer = lambda s: give(s, gzip.compress(CONTENT), Content_Encoding="gzip", ETag='"one"')
    assert Path(manager.get_local_path(f"{url}/weights.pkl")).read_bytes() == CONTENT


def test_a_range_that_was_not_asked_for_is_not_appended(cache: Path, url: str, manager: PathRegistry) -> None:
    def answer(server: Server) -> None:
        if server.headers.get("Range"):
            give(server, CONTENT[:-50], 206, Content_Range=f"bytes 0-{len(CONTENT) - 51}/{len(CONTENT)}")
        else:
            give(server, CONTENT)

    Server.answer = answer
    left_part(cache, f"{url}/file.bin", CONTENT[:50], tag='"one"')
    assert Path(manager.get_local_path(f"{url}/file.bin")).read_bytes() == CONTENT


def test_tries_wait_as_long_as_the_server_asks(
    cache: Path, url: str, manager: PathRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[float] = []
    monkeypatch.setattr(downloads, "time", SimpleNamespace(sleep=pauses.append))
    Server.answer = lambda s: give(s, b"", 503, Retry_After="7")
    with pytest.raises(ConnectionError, match="503"):
        manager.get_local_path(f"{url}/file.bin")
    assert pauses == [7, 7, 7]
    pauses.clear()
    Server.answer = lambda s: give(s, b"", 500)
    with pytest.raises(ConnectionError, match="500"):
        manager.get_local_path(f"{url}/file.bin")
    assert pauses == sorted(pauses) and pauses[0] >= 0.2 and len(pauses) == 3
    pauses.clear()
    Server.answer = lambda s: give(s, b"", 400)
    with pytest.raises(ConnectionError, match="400"):
        manager.get_local_path(f"{url}/file.bin")
    assert pauses == []


def test_a_full_disk_is_said(
    cache: Path, url: str, manager: PathRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = downloads.shutil.disk_usage(cache.parent)
    monkeypatch.setattr(downloads.shutil, "disk_usage", lambda p: usage._replace(free=10))
    with pytest.raises(OSError, match="disk full"):
        manager.get_local_path(f"{url}/file.bin")


def test_urls_are_read_only(url: str, manager: PathRegistry, cache: Path) -> None:
    with pytest.raises(ValueError, match="only be read"):
        manager.open(f"{url}/x", "w")
    with pytest.raises(NotImplementedError, match="remove"):
        manager.rm(f"{url}/x")


def test_detectron2_paths_come_from_the_cache(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DETECTRON2_OFFLINE", "1")
    (cache / "detectron2" / "a").mkdir(parents=True)
    (cache / "detectron2" / "a" / "b.txt").write_text("x")
    assert PathManager.get_local_path("detectron2://a/b.txt") == str(cache / "detectron2" / "a" / "b.txt")
    with PathManager.open("detectron2://a/b.txt") as f:
        assert f.read() == "x"
    assert PathManager.isfile("detectron2://a/b.txt")
    assert Detectron2Handler.S3_DETECTRON2_PREFIX.startswith("https://dl.fbaipublicfiles.com/")


def test_any_scheme_of_fsspec(cache: Path) -> None:
    pytest.importorskip("fsspec")
    with PathManager.open("memory://box/f.txt", "w") as f:
        f.write("hello")
    assert PathManager.exists("memory://box/f.txt")
    assert PathManager.ls("memory://box") == ["f.txt"]
    assert Path(PathManager.get_local_path("memory://box/f.txt")).read_text() == "hello"
    with pytest.raises(ValueError, match="no handler"):
        PathManager.open("nosuchscheme://x")


def test_own_handlers(tmp_path: Path) -> None:
    class Mine(PathHandler):
        def _get_supported_prefixes(self) -> list[str]:
            return ["mine://"]

        def _get_local_path(self, path: str, force: bool = False, **kwargs: Any) -> str:
            self._check_kwargs(kwargs)
            return str(tmp_path / path[len("mine://") :])

    manager = PathRegistry()
    manager.register_handler(Mine())
    assert manager.get_local_path("mine://x") == str(tmp_path / "x")
    with pytest.raises(ValueError, match="allow_override"):
        manager.register_handler(Mine())
    manager.register_handler(Mine(), allow_override=True)
    with pytest.raises(NotImplementedError, match="Mine cannot open"):
        manager.open("mine://x")
    manager.set_strict_kwargs_checking(True)
    with pytest.raises(ValueError, match="odd"):
        manager.get_local_path("mine://x", odd=1)


def test_cache_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FVCORE_CACHE", raising=False)
    assert get_cache_dir() == os.path.expanduser("~/.torch/iopath_cache")
    assert get_cache_dir("/x") == "/x"
