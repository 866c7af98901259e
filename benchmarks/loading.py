"""Time and memory of loading a large COCO file and of starting its loader.

    python benchmarks/loading.py [--images 118000] [--annotations 860000] [--boxes] [--large] [--folder DIR]

Each measurement runs in a process of its own. Compared are `json.load` of the same file, the same records made by hand
with pycocotools' `COCO`, the first and the second `load_coco_json`, the second with all records and annotations then read
once, and the start of a training loader with 0 and 4 workers up to its first batch, also over a list of one record, for
what the workers themselves take. Times are of the processor, of all processes together (and of the clock, in brackets,
which other work on the machine lengthens). Memory is the growth of the proportional set size (Pss_Anon and Pss_Shmem of
/proc/PID/smaps_rollup) of all processes together, in which pages that several share count once; mapped libraries are left
out, since their share depends on what else runs. Peaks are of the resident memory, mapped files included.

The figures of docs/scale.md are those of

    python benchmarks/loading.py --images 1000000 --annotations 8000000 --boxes --large
"""

import argparse
import contextlib
import io
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any


def write_file(path: Path, images: int, annotations: int, boxes: bool) -> None:
    """A COCO file with polygons of about the length of COCO's, or none, annotations in random order of images."""
    rng = random.Random(0)
    ids = [i for i in range(1, 91) if i % 9]
    before, after = [], []  # what is around the number of the image
    for _ in range(9973):
        corners = [round(rng.uniform(0, 480), 2) for _ in range(2 * rng.randint(8, 36))]
        polygon = "" if boxes else f'"segmentation": {json.dumps([corners])}, '
        before.append(f'{{{polygon}"area": {rng.uniform(10, 9e4):.4f}, "iscrowd": 0, "image_id": ')
        box = [round(rng.uniform(low, high), 2) for low, high in ((0, 400), (0, 300), (9, 200), (9, 100))]
        after.append(f', "bbox": {box}, "category_id": {rng.choice(ids)}, "id": ')
    with open(path, "w") as f:
        f.write('{"info": {"year": 2017}, "categories": ')
        json.dump([{"id": i, "name": f"class {i}", "supercategory": "x"} for i in ids], f)
        f.write(', "images": [')
        for i in range(images):
            comma = ", " if i else ""
            f.write(
                f'{comma}{{"license": 4, "file_name": "{i:012d}.jpg", "coco_url": "http://images.org/train2017/{i:012d}.jpg", '
                f'"height": 480, "width": 640, "date_captured": "2013-11-14 16:28:13", "id": {i}}}'
            )
        f.write('], "annotations": [')
        for a in range(annotations):
            comma = ", " if a else ""
            image = int(rng.random() * images)
            f.write(f"{comma}{before[a % 9973]}{image}{after[a % 9973]}{a + 1}}}")
        f.write("]}")


def workers_of() -> list[int]:
    """The child processes of this one."""
    pid = os.getpid()
    return [int(p) for p in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def processor_seconds() -> float:
    """Processor time of this process and its living children."""
    total = time.process_time()
    for pid in workers_of():
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
        total += (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return total


def used_mib(children: bool = False) -> float:
    """Memory of this process (and its children) in MiB; pages that several processes share count once (PSS)."""
    total = 0
    for pid in [os.getpid(), *(workers_of() if children else [])]:
        rows = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        total += sum(int(r.split()[1]) for r in rows if r.startswith(("Pss_Anon:", "Pss_Shmem:")))
    return total / 1024


def peak_mib() -> float:
    """Largest resident memory of this process in MiB."""
    rows = Path("/proc/self/status").read_text().splitlines()
    return next(int(r.split()[1]) for r in rows if r.startswith("VmHWM")) / 1024


def measured(action: Callable[[], Any]) -> tuple[Any, dict[str, float]]:
    """What an action gives, and its times and memory."""
    base, base_peak = used_mib(), peak_mib()
    clock, processor = time.perf_counter(), processor_seconds()
    made = action()
    times = {"processor_s": processor_seconds() - processor, "clock_s": time.perf_counter() - clock}
    return made, {
        **times,
        "mib": used_mib(children=True) - base,
        "peak_mib": peak_mib() - base_peak,
        "imports_mib": base_peak,
    }


def measure_json(path: str) -> dict:
    with open(path) as f:
        return measured(lambda: json.load(f))[1]


def measure_by_hand(path: str) -> dict:
    """What a program without this package does: index the file with pycocotools, and make the records."""
    from pycocotools.coco import COCO

    def records() -> list[dict]:
        with contextlib.redirect_stdout(io.StringIO()):
            coco = COCO(path)
        number = {category: i for i, category in enumerate(sorted(coco.getCatIds()))}
        made = []
        for image in coco.loadImgs(sorted(coco.imgs)):
            annotations = []
            for anno in coco.imgToAnns[image["id"]]:
                obj = {k: anno[k] for k in ("iscrowd", "bbox", "keypoints", "category_id") if k in anno}
                polygons = [p for p in anno.get("segmentation", ()) if len(p) % 2 == 0 and len(p) >= 6]
                obj |= {"bbox_mode": 1, "category_id": number[obj["category_id"]]}
                annotations.append(obj | ({"segmentation": polygons} if polygons else {}))
            made.append(
                {
                    "file_name": os.path.join("images", image["file_name"]), "height": image["height"],
                    "width": image["width"], "image_id": image["id"], "annotations": annotations,
                }
            )  # fmt: skip
        return made

    return measured(records)[1]


def measure_load(path: str, parse: bool = False) -> dict:
    from detectron2.data.datasets import load_coco_json

    def records() -> list[dict]:
        found = load_coco_json(path, "images", "benchmark")
        return [r for r in found if r["annotations"]] if parse else found

    return measured(records)[1]


def measure_loader(path: str, workers: int, empty: bool = False) -> dict:
    """Start a loader, up to its first batch; the memory is that after 200 more."""
    from detectron2.data import build_detection_train_loader, get_detection_dataset_dicts
    from detectron2.data.datasets import register_coco_instances

    register_coco_instances("benchmark", {}, path, "images")
    record = {"file_name": "", "height": 480, "width": 640, "image_id": 0, "annotations": []}

    def start() -> Iterator[list]:
        records = [record] * 100 if empty else get_detection_dataset_dicts("benchmark")
        loader = build_detection_train_loader(
            records, mapper=copy_of, total_batch_size=8, num_workers=workers, aspect_ratio_grouping=True
        )
        del records  # as when it is built from a config
        batches = iter(loader)
        next(batches)
        return batches

    base = used_mib()
    batches, found = measured(start)
    for _ in range(200):
        next(batches)
    return {**found, "mib": used_mib(children=True) - base}


def copy_of(record: dict) -> dict:
    """What a mapper does first: take a copy of the record, annotations included."""
    return {**record}


MEASURES: dict[str, Callable[[str], dict]] = {
    "json": measure_json,
    "by hand": measure_by_hand,
    "load": measure_load,
    "parse": lambda path: measure_load(path, parse=True),
    "loader 0": lambda path: measure_loader(path, 0),
    "loader 4": lambda path: measure_loader(path, 4),
    "loader 4 empty": lambda path: measure_loader(path, 4, empty=True),
}


ROWS = (
    ("json.load", "json"),
    ("pycocotools, by hand", "by hand"),
    ("first load", "load"),
    ("second load", "load"),
    ("second, all parsed", "parse"),
    ("loader, 0 workers", "loader 0"),
    ("loader, 4 workers", "loader 4"),
    ("4 workers, no data", "loader 4 empty"),
)
LARGE = (
    ("loader, first start", "loader 0"),
    ("loader, second start", "loader 0"),
    ("loader, 4 workers", "loader 4"),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=118_000)
    parser.add_argument("--annotations", type=int, default=860_000)
    parser.add_argument("--boxes", action="store_true", help="annotations without polygons")
    parser.add_argument(
        "--large", action="store_true", help="only what a file takes that is too large to parse at once"
    )
    parser.add_argument("--folder")
    parser.add_argument("--measure", choices=MEASURES)
    parser.add_argument("--file")
    args = parser.parse_args()
    if args.measure:
        print(json.dumps(MEASURES[args.measure](args.file)))
        return
    folder = Path(args.folder or tempfile.mkdtemp(prefix="loading-"))
    path = folder / f"synthetic_{args.images}_{args.annotations}{'_boxes' * args.boxes}.json"
    if not path.exists():
        write_file(path, args.images, args.annotations, args.boxes)
    env = {**os.environ, "FVCORE_CACHE": str(folder / "cache")}
    results: dict[str, dict] = {}
    for name, what in LARGE if args.large else ROWS:
        command = [sys.executable, "-W", "ignore", __file__, "--measure", what, "--file", str(path)]
        out = subprocess.run(command, env=env, check=True, capture_output=True, text=True).stdout
        results[name] = found = json.loads(out.strip().splitlines()[-1])
        print(
            f"{name:<22}{found['processor_s']:7.2f} s ({found['clock_s']:.2f} s)  {found['mib']:7.0f} MiB, "
            f"peak {found['peak_mib']:.0f} MiB over the {found['imports_mib']:.0f} MiB of the imports",
            flush=True,
        )
    if not args.large:
        compare(results)


def compare(results: dict[str, dict]) -> None:
    """Print ratios."""
    parsed, first, one = results["json.load"], results["first load"], results["loader, 0 workers"]
    base = results["pycocotools, by hand"]["processor_s"]
    for name in ("first load", "second load", "second, all parsed"):
        print(f"{name}: {base / results[name]['processor_s']:.1f} times as fast as pycocotools by hand")
    data_of_4 = results["loader, 4 workers"]["mib"] - results["4 workers, no data"]["mib"]
    print(f"first load over json.load: time {first['processor_s'] / parsed['processor_s']:.2f}, ", end="")
    print(f"memory {first['mib'] / parsed['mib']:.3f}, peak {first['peak_mib'] / parsed['peak_mib']:.3f}")
    print(f"data with 4 workers over data of one process: {data_of_4 / one['mib']:.2f}")


if __name__ == "__main__":
    main()
