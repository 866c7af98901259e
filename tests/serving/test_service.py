"""The service over real sockets: answers, refusals, load, and an orderly end."""

import base64
import io
import json
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from functools import cache

import numpy as np
import pytest
import torch
from PIL import Image

from detectron2.data import Metadata
from detectron2.serving import Limits
from detectron2.serving.answers import describe
from detectron2.serving.batcher import Batcher, BusyError
from detectron2.structures.rle import decode

from .conftest import Client, picture, serving


def test_json_is_what_the_predictor_finds(client, predictor):
    data = picture()
    status, found = client.predict(data)
    expected = predictor(data)["instances"].to("cpu")
    assert status == 200 and (found["width"], found["height"]) == (64, 48)
    assert len(found["objects"]) == len(expected) > 0
    for entry, box, score in zip(found["objects"], expected.pred_boxes.tensor, expected.scores):
        x, y, width, height = entry["bbox"]
        np.testing.assert_allclose([x, y, x + width, y + height], box, atol=1e-2)
        assert abs(entry["score"] - float(score)) < 1e-4
        assert entry["class"] in ("disc", "square")
        assert decode(entry["segmentation"]).shape == (48, 64)


def test_options(client):
    data = picture()
    everything = client.predict(data)[1]["objects"]
    limit = sorted(o["score"] for o in everything)[len(everything) // 2]
    few = client.predict(data, f"?scores={limit}&masks=none")[1]["objects"]
    assert 0 < len(few) < len(everything) and not any("segmentation" in o for o in few)
    outlines = client.predict(data, "?masks=polygons")[1]["objects"]
    assert all(isinstance(o["segmentation"], list) for o in outlines)


@pytest.mark.parametrize("kind", ["jpeg", "png"])
def test_the_drawn_picture(client, kind):
    status, headers, body = client.send("POST", f"/predict?output={kind}", picture())
    assert status == 200 and headers["content-type"] == f"image/{kind}"
    assert Image.open(io.BytesIO(body)).size == (64, 48)


def test_forms(client):
    edge = "frontier"
    head = f'--{edge}\r\nContent-Disposition: form-data; name="image"; filename="그림.jpg"\r\n\r\n'.encode()
    headers = {"Content-Type": f"multipart/form-data; boundary={edge}"}
    body = head + picture() + f"\r\n--{edge}--\r\n".encode()
    status, _, answer = client.send("POST", "/predict", body, headers)
    assert status == 200 and json.loads(answer)["objects"]
    without = body.replace(b'name="image"', b'name="other"')
    status, _, answer = client.send("POST", "/predict", without, headers)
    assert status == 422 and "'image'" in json.loads(answer)["detail"]
    status, _, _ = client.send("POST", "/predict", body[:40], headers)
    assert 400 <= status < 500


@cache
def bad_requests():
    whole = picture(height=160, width=160)
    bomb = io.BytesIO()
    Image.new("1", (8000, 8000)).save(bomb, "PNG")
    return {
        "empty": (b"", "", 422),
        "text": (b"no picture", "", 415),
        "truncated": (whole[: len(whole) // 2], "", 422),
        "header alone": (picture(kind="PNG")[:30], "", 415),
        "bomb": (bomb.getvalue(), "", 413),
        "scores": (picture(), "?scores=2", 422),
        "output": (picture(), "?output=gif", 422),
        "not a number": (picture(), "?scores=nan", 422),
    }


@pytest.mark.parametrize("name", bad_requests())
def test_bad_requests_get_one_line(client, name):
    data, query, expected = bad_requests()[name]
    status, answer = client.predict(data, query)
    assert status == expected, answer
    assert "Traceback" not in str(answer) and answer["detail"]
    assert client.predict(picture())[0] == 200


def test_other_paths_and_methods(client):
    assert client.send("GET", "/predict")[0] == 405
    assert client.send("GET", "/../../etc/passwd")[0] == 404
    status, headers, body = client.send("GET", "/")
    assert status == 200 and b"<title>" in body
    assert "default-src 'self'" in headers["content-security-policy"]
    for page in ("/", "/docs"):  # nothing comes from elsewhere
        assert not re.search(rb"(src|href)=.?(https?:)?//", client.send("GET", page)[2])
    paths = json.loads(client.send("GET", "/openapi.json")[2])["paths"]
    assert set(paths) == {"/predict", "/health", "/ready"}
    assert json.loads(client.send("GET", "/ready")[2]) == {
        "ready": True, "model": "tiny", "classes": ["disc", "square"],
    }  # fmt: skip


def test_sizes_are_bounded_before_anything_is_kept(predictor):
    with serving(predictor, Limits(max_bytes=20_000, max_pixels=10_000)) as client:
        assert client.predict(picture(height=160, width=160))[0] == 413  # pixels
        status, answer = client.predict(b"x" * 20_001)
        assert status == 413 and "20000 bytes" in answer["detail"]

        def endless():
            for _ in range(50):
                yield b"x" * 1000

        status, _, answer = client.send("POST", "/predict", endless(), {"Content-Type": "image/jpeg"})
        assert status == 413
        assert client.predict(picture())[0] == 200


def slow(predictor, gate: threading.Event):
    """A predictor that waits before each batch."""
    import copy

    other = copy.copy(predictor)
    other.run_prepared = lambda batch: (gate.wait(30), predictor.run_prepared(batch))[1]
    return other


def test_a_full_queue_says_when_to_come_back(predictor):
    gate = threading.Event()
    with serving(slow(predictor, gate), Limits(queue_size=2)) as client, ThreadPoolExecutor(8) as pool:
        taken = [pool.submit(client.predict, picture()) for _ in range(2)]
        while client.metric("detectron2_requests_in_flight") < 2:
            time.sleep(0.01)
        status, headers, _ = client.send("POST", "/predict", picture())
        assert status == 429 and int(headers["retry-after"]) >= 1
        assert client.send("GET", "/health")[0] == 200  # the rest still answers
        gate.set()
        assert [f.result()[0] for f in taken] == [200, 200]


def test_a_request_that_takes_too_long_ends(predictor):
    gate = threading.Event()
    with serving(slow(predictor, gate), Limits(timeout=0.3)) as client:
        status, answer = client.predict(picture())
        assert status == 504 and "0.3 s" in answer["detail"]
        gate.set()
        while client.metric("detectron2_requests_in_flight"):
            time.sleep(0.01)


@pytest.mark.parametrize("count", [24, pytest.param(200, marks=pytest.mark.slow)])
def test_many_at_once(predictor, count):
    pictures = [picture(seed, 48, 64 if seed % 3 else 80) for seed in range(count)]
    limits = Limits(batch_wait=0.02, timeout=600)  # this is no test of speed, and the machine may be busy
    with serving(predictor, limits) as client, ThreadPoolExecutor(count) as pool:
        answers = list(pool.map(client.predict, pictures))
        assert [status for status, _ in answers] == [200] * count
        assert [a["width"] for _, a in answers] == [64 if seed % 3 else 80 for seed in range(count)]
        assert client.metric('detectron2_requests_total{status="200"}') == count
        assert client.metric("detectron2_batch_size_count") < count  # some ran together
        assert client.metric("detectron2_requests_in_flight") == 0
        for seed in (0, 7, count - 1):
            alone = client.predict(pictures[seed])[1]
            np.testing.assert_allclose(
                [o["score"] for o in alone["objects"]],
                [o["score"] for o in answers[seed][1]["objects"]],
                atol=1e-4,
            )


def test_clients_that_leave_do_no_harm(client):
    for _ in range(5):
        with socket.create_connection(("127.0.0.1", client.port)) as connection:
            connection.sendall(b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: 5000\r\n\r\nabc")
    assert client.predict(picture())[0] == 200
    while client.metric("detectron2_requests_in_flight"):
        time.sleep(0.01)


def test_the_batcher_answers_what_it_took_and_takes_no_more():
    ran = []
    gate = threading.Event()

    def run(batch):
        gate.wait(30)
        ran.append(len(batch))
        return [{"value": p.data} for p in batch]

    from detectron2.prediction.backends import Prepared

    batcher = Batcher(run, batch_size=3, wait=0.0, queue_size=10)
    answers = [batcher.submit(Prepared(k, "same")) for k in range(7)]
    assert answers[6].cancel()
    closing = threading.Thread(target=batcher.close)
    closing.start()
    while batcher.alive:
        time.sleep(0.001)
    with pytest.raises(BusyError, match="closing"):
        batcher.submit(Prepared(0, "same"))
    gate.set()
    closing.join()
    assert [a.result()["value"] for a in answers[:6]] == list(range(6))
    assert sum(ran) == 6 and max(ran) <= 3


def test_an_error_of_one_batch_ends_neither_thread_nor_others(caplog):
    from detectron2.prediction.backends import Prepared

    def run(batch):
        if batch[0].shape == "bad":
            raise RuntimeError("no")
        return [{} for _ in batch]

    batcher = Batcher(run, batch_size=4, wait=0.05)
    bad, good = batcher.submit(Prepared(0, "bad")), batcher.submit(Prepared(1, "good"))
    assert good.result() == {}
    with pytest.raises(RuntimeError, match="no"):
        bad.result()
    batcher.close()


def test_segments_are_described():
    metadata = Metadata(thing_classes=["cat"], stuff_classes=["sky", "road"])
    semantic = torch.zeros(2, 4, 6)
    semantic[1, :, 3:] = 1
    panoptic = torch.ones(4, 6, dtype=torch.int64)
    panoptic[0] = 300
    info = [
        {"id": 1, "isthing": True, "category_id": 0, "score": 0.5},
        {"id": 300, "isthing": False, "category_id": 1},
    ]
    found = describe({"sem_seg": semantic, "panoptic_seg": (panoptic, info)}, (4, 6), metadata)
    shown = np.asarray(Image.open(io.BytesIO(base64.b64decode(found["semantic"]["png"]))))
    assert (shown == semantic.argmax(0).numpy()).all()
    segments = np.asarray(Image.open(io.BytesIO(base64.b64decode(found["panoptic"]["png"]))))
    assert (segments == panoptic.numpy()).all()
    assert [s["class"] for s in found["panoptic"]["segments"]] == ["cat", "road"]


def test_limits_are_checked():
    with pytest.raises(ValueError, match="timeout must be positive"):
        Limits(timeout=0)


@pytest.mark.slow
def test_the_command_serves_and_ends_in_order(tiny_file, tmp_path):
    words = [sys.executable, "-m", "detectron2", "serve", str(tiny_file), "--port", "0", "--device", "cpu"]
    process = subprocess.Popen(
        [*words, "--threshold", "0"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        line = next(line for line in process.stdout if line.startswith("Serving"))
        client = Client(int(re.search(r":(\d+)/ ", line)[1]), None)
        waiting = []
        for seed in range(8):
            data = picture(seed, 240, 320)
            waiting.append(socket.create_connection(("127.0.0.1", client.port)))
            head = f"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: {len(data)}\r\n\r\n"
            waiting[-1].sendall(head.encode() + data)
        while client.metric("detectron2_requests_in_flight") + client.metric("detectron2_requests_total") < 8:
            time.sleep(0.001)
        process.send_signal(signal.SIGTERM)
        for connection in waiting:
            with connection:
                assert connection.makefile("rb").readline().split()[1] == b"200"
        assert process.wait(30) in (0, -signal.SIGTERM)
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
        process.stderr.close()


def test_a_port_in_use_is_said_before_the_model_is_loaded(capsys):
    from detectron2.cli import main

    with socket.socket() as door:
        door.bind(("127.0.0.1", 0))
        door.listen()
        port = door.getsockname()[1]
        assert main(["serve", "no-such-model", "--port", str(port)]) == 2
    assert f"port {port}" in capsys.readouterr().err
