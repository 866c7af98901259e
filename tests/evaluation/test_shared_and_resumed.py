"""Every evaluator: several real processes, and processes that are killed, give the figures of one, bit for bit."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(__file__).with_name("every_evaluator.py")
ALL = 10  # runs of the program


def run(folder, world, images, die_after=None, attempt=0):
    """Run the program; exit codes of its processes."""
    folder.mkdir(exist_ok=True)
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "STORE": str(attempt)}
    command = [sys.executable, str(PROGRAM)]
    rest = [str(images)] if die_after is None else [str(images), str(die_after)]
    running = [
        subprocess.Popen(
            [*command, str(r), str(world), str(folder), *rest],
            env=environment,
            stderr=subprocess.PIPE,
            text=True,
        )
        for r in range(world)
    ]
    errors = [p.communicate(timeout=300)[1] for p in running]
    codes = [p.returncode for p in running]
    if die_after is None:
        assert codes == [0] * world, errors
    return codes


def read(folder, name="figures.json"):
    return json.loads((folder / name).read_text())


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Figures of single, unbroken processes, by number of images."""
    folder = tmp_path_factory.mktemp("whole")
    for images in (3, 13):
        run(folder / str(images), 1, images)
    return {images: folder / str(images) for images in (3, 13)}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("world", "images"), [(2, 13), (4, 3)], ids=["uneven split", "a process without images"]
)
def test_processes_share_the_work(tmp_path, whole, world, images):
    run(tmp_path / "shared", world, images)
    figures = read(tmp_path / "shared")
    assert len(figures) == ALL
    assert figures == read(whole[images])
    for name in (
        "out/coco_instances_results.json",
        "out/lvis_instances_results.json",
        "pan/predictions.json",
    ):
        one, joined = (read(f, name) for f in (whole[images], tmp_path / "shared"))
        order = lambda entries: sorted(json.dumps(e, sort_keys=True) for e in entries)  # noqa: E731
        one, joined = (x["annotations"] if isinstance(x, dict) else x for x in (one, joined))
        assert order(one) == order(joined)
    assert not list((tmp_path / "shared" / "out").glob(".*part*"))


@pytest.mark.slow
def test_a_killed_evaluation_goes_on(tmp_path, whole):
    """The program kills itself after 45 images of some evaluator; the last record of its files is torn too."""
    folder = tmp_path / "killed"
    attempts = 0
    while not (folder / "figures.json").exists():
        codes = run(folder, 1, 13, die_after=45, attempt=attempts)
        attempts += 1
        assert codes in ([-signal.SIGKILL], [0])
        assert attempts < 9
        if attempts == 1:
            files = list((folder / "records").glob("*.records"))
            assert len(files) == 4  # three evaluators were through, the fourth was not
            for path in files:
                os.truncate(path, path.stat().st_size - 5)
    assert attempts >= 3
    assert read(folder) == read(whole[13])
    # 13 images are 7 batches, and what was done before the last sitting was not done again
    assert list(read(folder, "batches.json").values())[:4] == [0] * 4


@pytest.mark.slow
def test_resumed_by_another_number_of_processes(tmp_path, whole):
    folder = tmp_path / "moved"
    run(folder, 2, 13)
    first = read(folder)
    # as if the second process had been killed half way: its files lose their second half
    for path in (folder / "records").glob("*.1.records"):
        os.truncate(path, path.stat().st_size // 2)
    (folder / "figures.json").unlink()
    run(folder, 1, 13, attempt=1)
    assert read(folder) == first == read(whole[13])
    assert all(0 < n < 7 for n in read(folder, "batches.json").values())
