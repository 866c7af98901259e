"""A real server in a thread of the test process, with a small Mask R-CNN."""

import http.client
import io
import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("fastapi")
import uvicorn

from detectron2.prediction import Predictor
from detectron2.serving import Limits, create_app

from ..prediction.conftest import tiny_file as tiny_file


class Client:
    """Speaks HTTP to one server."""

    def __init__(self, port: int, app: Any) -> None:
        self.port, self.app = port, app

    def send(
        self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None
    ) -> tuple[int, dict[str, str], bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=600)
        try:
            connection.request(method, path, body, headers or {})
            answer = connection.getresponse()
            return answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read()
        finally:
            connection.close()

    def predict(self, data: bytes, query: str = "") -> tuple[int, Any]:
        status, _, body = self.send("POST", f"/predict{query}", data, {"Content-Type": "image/jpeg"})
        return status, json.loads(body)

    def metric(self, name: str) -> float:
        text = self.send("GET", "/metrics")[2].decode()
        return sum(float(line.split()[-1]) for line in text.splitlines() if line.startswith(name))


@contextmanager
def serving(predictor: Predictor, limits: Limits | None = None) -> Iterator[Client]:
    app = create_app(predictor, limits, "tiny")
    door = socket.socket()
    door.bind(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [door]})
    thread.start()
    while not server.started:
        time.sleep(0.01)
    try:
        yield Client(door.getsockname()[1], app)
    finally:
        server.should_exit = True
        thread.join()
        door.close()


@pytest.fixture(scope="session")
def predictor(tiny_file):
    return Predictor(tiny_file, device="cpu", scores=0.0, batch_size=4)


@pytest.fixture(scope="module")
def client(predictor) -> Iterator[Client]:
    with serving(predictor) as client:
        yield client


def picture(seed: int = 0, height: int = 48, width: int = 64, kind: str = "JPEG") -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 255, (height // 8, width // 8, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).resize((width, height)).save(file, kind)
    return file.getvalue()
