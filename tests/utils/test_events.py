"""Event storage, histories and writers."""

import json
import statistics

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from detectron2.utils.events import (
    CommonMetricPrinter,
    EventStorage,
    HistoryBuffer,
    JSONWriter,
    TensorboardXWriter,
    get_event_storage,
    has_event_storage,
)


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=30), st.integers(1, 40))
def test_history_against_lists(values, window):
    history = HistoryBuffer()
    for v in values:
        history.update(v)
    tail = values[-window:]
    assert history.latest() == values[-1]
    assert history.median(window) == statistics.median(tail)
    assert history.avg(window) == pytest.approx(statistics.fmean(tail), abs=1e-6)
    assert history.global_avg() == pytest.approx(statistics.fmean(values), abs=1e-6)
    assert history.values() == list(zip(values, range(len(values))))


def test_history_forgets_but_counts():
    history = HistoryBuffer(max_length=2)
    for v in (1.0, 2.0, 6.0):
        history.update(v)
    assert [v for v, _ in history.values()] == [2.0, 6.0] and history.global_avg() == 3.0
    with pytest.raises(ValueError, match="empty"):
        HistoryBuffer().latest()


def test_storages_nest_and_close():
    assert not has_event_storage()
    with EventStorage() as outer:
        with EventStorage() as inner:
            assert get_event_storage() is inner
        assert get_event_storage() is outer
    with pytest.raises(AssertionError, match="EventStorage"):
        get_event_storage()


def test_smoothing_looks_at_iterations_not_values():
    with EventStorage() as storage:
        for i in range(100):
            storage.iter = i
            storage.put_scalar("each", i)
            if i % 10 == 0:
                storage.put_scalar("tenth", i)
        smooth = storage.latest_with_smoothing_hint(20)
    assert smooth["each"] == (statistics.median(range(80, 100)), 99)
    assert smooth["tenth"] == (85.0, 90)
    assert storage.count_samples("tenth", 20) == 2


def test_unknown_metric_names_the_nearest():
    with EventStorage() as storage:
        storage.put_scalar("total_loss", 1.0)
        with pytest.raises(KeyError, match="total_loss"):
            storage.history("totl_loss")


def test_scalars_may_be_tensors_arrays_and_numbers():
    with EventStorage() as storage:
        for value in (torch.tensor(2.0), torch.tensor([2.0]), np.float32(2.0), np.array(2.0), 2, True):
            storage.put_scalar("x", value)
        assert [v for v, _ in storage.history("x").values()] == [2.0] * 5 + [1.0]


def test_waiting_values_keep_their_order(monkeypatch):
    """Values that lie on a device wait; numbers put after them must not overtake them."""
    storage = EventStorage()
    storage._waiting = [("x", torch.tensor(1.0), 0)]
    storage.put_scalar("y", 1.5, cur_iter=0)
    storage.put_scalar("x", 2.0, cur_iter=1)
    assert len(storage._waiting) == 3
    storage._smoothing_hints["x"] = True
    assert storage.history("x").values() == [(1.0, 0), (2.0, 1)]
    assert storage.latest()["y"] == (1.5, 0) and not storage._waiting


def test_json_lines_hold_each_value_once(tmp_path):
    path = tmp_path / "sub" / "metrics.json"
    with EventStorage() as storage:
        writer = JSONWriter(path)
        for i in range(6):
            storage.iter = i
            storage.put_scalars(loss=i, smoothing_hint=False)
            if i == 2:
                storage.put_scalar("AP", 0.5, smoothing_hint=False)
            if i % 3 == 2:
                writer.write()
                writer.write()
        writer.close()
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    assert rows == [{"iteration": 2, "loss": 2.0, "AP": 0.5}, {"iteration": 5, "loss": 5.0}]


def test_json_appends_after_a_restart(tmp_path):
    for start in (0, 1):
        with EventStorage(start) as storage:
            storage.put_scalar("a", start)
            writer = JSONWriter(tmp_path / "m.json")
            writer.write()
            writer.close()
    assert len((tmp_path / "m.json").read_text().splitlines()) == 2


def test_histogram_counts_everything():
    with EventStorage() as storage:
        storage.put_histogram("h", torch.randn(7, 11), bins=5)
    (h,) = storage._histograms
    assert sum(h["bucket_counts"]) == 77 == h["num"] and len(h["bucket_limits"]) == 5
    assert h["bucket_limits"][-1] == pytest.approx(h["max"])


def test_tensorboard_file_can_be_read_back(tmp_path):
    event_accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    with EventStorage(4) as storage:
        storage.put_scalar("loss", 0.25)
        storage.put_image("pic", torch.zeros(3, 4, 5))
        storage.put_histogram("h", torch.arange(9.0), bins=3)
        writer = TensorboardXWriter(str(tmp_path))
        writer.write()
        assert not storage._vis_data and not storage._histograms
        writer.close()
    read = event_accumulator.EventAccumulator(str(tmp_path))
    read.Reload()
    (event,) = read.Scalars("loss")
    assert (event.step, event.value) == (4, 0.25)
    assert read.Tags()["images"] == ["pic"] and read.Tags()["histograms"] == ["h"]


def test_printed_line_has_time_left_and_rate(caplog):
    with EventStorage() as storage, caplog.at_level("INFO", logger="detectron2.utils.events"):
        printer = CommonMetricPrinter(max_iter=101)
        for i in range(20):
            storage.iter = i
            storage.put_scalars(time=2.0, data_time=0.5, total_loss=1.5)
            storage.put_scalar("lr", 0.02, smoothing_hint=False)
        printer.write()
        assert storage.history("eta_seconds").latest() == 162.0
        storage.iter = 101
        printer.write()  # the end repeats nothing
    (line,) = [r.getMessage() for r in caplog.records]
    for part in ("eta: 0:02:42", "iter: 19", "total_loss: 1.5", "time: 2.0", "data_time: 0.5", "lr: 0.02"):
        assert part in line


def test_mlflow_file_store(tmp_path, monkeypatch):
    pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")  # newer versions want to be asked for it
    from mlflow.tracking import MlflowClient

    from detectron2.utils.events import MLflowWriter

    uri = (tmp_path / "runs").as_uri()
    with EventStorage(3) as storage:
        storage.put_scalar("loss", 0.5)
        writer = MLflowWriter("tests", uri, config={"SOLVER": {"BASE_LR": 0.1}})
        writer.write()
        writer.close()
    run = MlflowClient(uri).get_run(writer.run_id)
    assert run.data.metrics["loss"] == 0.5 and run.data.params["SOLVER.BASE_LR"] == "0.1"
    assert run.info.status == "FINISHED"
