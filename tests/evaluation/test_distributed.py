"""Two real processes give the figures of one, bit for bit."""

import json
import os
import subprocess
import sys

import pytest

SCRIPT = """
import json, os, sys, tempfile
import numpy as np, torch, torch.distributed as dist
from detectron2.data import DatasetCatalog
from detectron2.evaluation import COCOEvaluator
from detectron2.data import MetadataCatalog
from detectron2.structures import Boxes, BoxMode, Instances
from detectron2.utils import comm

rank, world, store, out, engine = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4], sys.argv[5]
torch.set_num_threads(1)
if world > 1:
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=world)
    comm.create_local_process_group(world)
H, W = 100, 130
rng = np.random.default_rng(0)
dicts, outputs = [], []
for i in range(21):
    annotations, boxes = [], []
    for _ in range(int(rng.integers(0, 5))):
        x, y, w, h = rng.uniform([0, 0, 8, 8], [80, 60, 45, 40])
        box = [x, y, x + w, y + h]
        annotations.append({"bbox": box, "bbox_mode": BoxMode.XYXY_ABS, "category_id": int(rng.integers(3)),
                            "segmentation": [[x, y, x + w, y, x + w, y + h, x, y + h]]})
        boxes += [np.array(box) + rng.normal(0, 3, 4) for _ in range(3)]
    dicts.append({"file_name": f"{i}.jpg", "image_id": (i * 8) % 21 + 1, "height": H, "width": W, "annotations": annotations})
    boxes = torch.tensor(np.array(boxes).reshape(-1, 4), dtype=torch.float32)
    inst = Instances((H, W), pred_boxes=Boxes(boxes), scores=torch.tensor(np.round(rng.random(len(boxes)), 1), dtype=torch.float32),
                     pred_classes=torch.tensor(rng.integers(0, 3, len(boxes))))
    masks = torch.zeros(len(boxes), H, W, dtype=torch.bool)
    for m, (x0, y0, x1, y1) in zip(masks, boxes.round().clamp(min=0).int().tolist()):
        m[y0:y1, x0:x1] = True
    inst.pred_masks = masks
    prop = Instances((H, W), proposal_boxes=Boxes(boxes), objectness_logits=inst.scores)
    outputs.append({"instances": inst, "proposals": prop})
DatasetCatalog.register("two_processes", lambda: dicts)
MetadataCatalog.get("two_processes").thing_classes = ["a", "b", "c"]
ev = COCOEvaluator("two_processes", output_dir=out, engine=engine)
ev.reset()
for k in range(len(dicts)):
    if k % world == rank and k != 13:  # one image is never processed
        ev.process([dicts[k]], [outputs[k]])
res = ev.evaluate()
subset = ev.evaluate(img_ids=[d["image_id"] for d in dicts[3:9]])
if rank == 0:
    flat = lambda r: {f"{t}/{m}": float(v).hex() for t, ms in r.items() for m, v in ms.items()}
    json.dump([flat(res), flat(subset)], open(os.path.join(out, "figures.json"), "w"))
else:
    assert res == {} and subset == {}
if world > 1:
    dist.destroy_process_group()
"""


def run(folder, world, engine):
    folder.mkdir()
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", SCRIPT]
    running = [
        subprocess.Popen(
            [*command, str(r), str(world), str(folder / "store"), str(folder), engine], env=environment
        )
        for r in range(world)
    ]
    assert [p.wait(timeout=180) for p in running] == [0] * world
    results = json.loads((folder / "coco_instances_results.json").read_text())
    return json.loads((folder / "figures.json").read_text()), results


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["hotcoco", "pycocotools"])
def test_two_processes_equal_one(tmp_path, engine):
    (whole, subset), results = run(tmp_path / "one", 1, engine)
    (joined, joined_subset), joined_results = run(tmp_path / "two", 2, engine)
    assert joined == whole
    assert joined_subset == subset
    assert "segm/AP" in whole
    assert "box_proposals/AR@100" in whole
    key = lambda r: json.dumps(r, sort_keys=True)  # noqa: E731
    assert sorted(joined_results, key=key) == sorted(results, key=key)
    assert not [f for f in os.listdir(tmp_path / "two") if "part" in f]
