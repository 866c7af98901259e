"""Time and memory of loading a large COCO file and of starting its loader.

    python benchmarks/loading.py [--images 118000] [--annotations 860000] [--folder DIR]

Each measurement runs in a process of its own. Compared are `json.load` of the same file, the first and the second
`load_coco_json`, and the start of a training loader with 4 workers up to its first batch. Memory is the growth of the
proportional set size of all processes together, in which pages that several share count once.
"""

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path


def write_file(path: Path, images: int, annotations: int) -> None:
    """A COCO file with polygons of about the length of COCO's, annotations in random order of images."""
    rng = random.Random(0)
    ids = [i for i in range(1, 91) if i % 9]
    polygons = []
    for _ in range(997):
        corners = [round(rng.uniform(0, 480), 2) for _ in range(2 * rng.randint(8, 36))]
        polygons.append(json.dumps([corners]))
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
            category = rng.choice(ids)
            comma = ", " if a else ""
            f.write(
                f'{comma}{{"segmentation": {polygons[a % 997]}, "area": {rng.uniform(10, 9e4):.4f}, "iscrowd": 0, '
                f'"image_id": {rng.randrange(images)}, "bbox": [{rng.uniform(0, 400):.2f}, {rng.uniform(0, 300):.2f}, '
                f'{rng.uniform(9, 200):.2f}, {rng.uniform(9, 100):.2f}], "category_id": {category}, "id": {a + 1}}}'
            )
        f.write("]}")


def used_mib(children: bool = False) -> float:
    """Memory of this process (and its children) in MiB; pages that several processes share count once (PSS)."""
    pids = [os.getpid()]
    if children:
        pids += [int(p) for p in Path(f"/proc/{pids[0]}/task/{pids[0]}/children").read_text().split()]
    total = 0
    for pid in pids:
        rows = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        total += sum(int(r.split()[1]) for r in rows if r.startswith("Pss:"))
    return total / 1024


def peak_mib() -> float:
    """Largest resident memory of this process in MiB."""
    rows = Path("/proc/self/status").read_text().splitlines()
    return next(int(r.split()[1]) for r in rows if r.startswith("VmHWM")) / 1024


def measure_json(path: str) -> dict:
    base, base_peak = used_mib(), peak_mib()
    start = time.perf_counter()
    with open(path) as f:
        content = json.load(f)
    seconds = time.perf_counter() - start
    return {
        "seconds": seconds,
        "mib": used_mib() - base,
        "peak_mib": peak_mib() - base_peak,
        "n": len(content["images"]),
    }


def measure_load(path: str) -> dict:
    from detectron2.data.datasets import load_coco_json

    base, base_peak = used_mib(), peak_mib()
    start = time.perf_counter()
    records = load_coco_json(path, "images", "benchmark")
    seconds = time.perf_counter() - start
    return {
        "seconds": seconds,
        "mib": used_mib() - base,
        "peak_mib": peak_mib() - base_peak,
        "n": len(records),
    }


def measure_loader(path: str, workers: int = 4) -> dict:
    from detectron2.data import build_detection_train_loader, get_detection_dataset_dicts
    from detectron2.data.datasets import register_coco_instances

    register_coco_instances("benchmark", {}, path, "images")
    base = used_mib()
    start = time.perf_counter()
    records = get_detection_dataset_dicts("benchmark")
    loader = build_detection_train_loader(
        records, mapper=copy_of, total_batch_size=8, num_workers=workers, aspect_ratio_grouping=True
    )
    del records
    batches = iter(loader)
    next(batches)
    seconds = time.perf_counter() - start
    for _ in range(200):
        next(batches)
    return {"seconds": seconds, "mib": used_mib(children=True) - base, "mib_main": used_mib() - base}


def copy_of(record: dict) -> dict:
    """What a mapper does first: take a copy of the record, annotations included."""
    return {**record}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=118_000)
    parser.add_argument("--annotations", type=int, default=860_000)
    parser.add_argument("--folder")
    parser.add_argument("--measure", choices=["json", "load", "loader", "loader1"])
    parser.add_argument("--file")
    args = parser.parse_args()
    if args.measure:
        done = {
            "json": measure_json, "load": measure_load, "loader": measure_loader,
            "loader1": lambda path: measure_loader(path, workers=1),
        }[args.measure](args.file)  # fmt: skip
        print(json.dumps(done))
        return
    folder = Path(args.folder or tempfile.mkdtemp(prefix="loading-"))
    path = folder / f"synthetic_{args.images}_{args.annotations}.json"
    if not path.exists():
        write_file(path, args.images, args.annotations)
    env = {**os.environ, "FVCORE_CACHE": str(folder / "cache")}
    results = {"file_mib": path.stat().st_size / 2**20}
    for name, what in (
        ("json.load", "json"),
        ("first load", "load"),
        ("second load", "load"),
        ("loader, 1 worker", "loader1"),
        ("loader, 4 workers", "loader"),
    ):
        command = [sys.executable, __file__, "--measure", what, "--file", str(path)]
        out = subprocess.run(command, env=env, check=True, capture_output=True, text=True).stdout
        results[name] = json.loads(out.strip().splitlines()[-1])
        print(name, {k: round(v, 2) for k, v in results[name].items()}, flush=True)
    parsed = results["json.load"]
    print(
        json.dumps(
            {
                "file_mib": round(results["file_mib"]),
                "first_load_over_json_time": round(results["first load"]["seconds"] / parsed["seconds"], 3),
                "load_over_json_memory": round(results["first load"]["mib"] / parsed["mib"], 3),
                "load_over_json_peak_memory": round(
                    results["first load"]["peak_mib"] / parsed["peak_mib"], 3
                ),
                "second_load_seconds": round(results["second load"]["seconds"], 2),
                "loader_start_seconds_4_workers": round(results["loader, 4 workers"]["seconds"], 2),
            }
        )
    )


if __name__ == "__main__":
    main()
