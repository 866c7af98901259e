"""A program of the tests: every evaluator on one small data set, in as many processes as asked for.

    python every_evaluator.py RANK WORLD FOLDER IMAGES [DIE_AFTER]

writes ``FOLDER/figures.json`` with every figure as a hexadecimal number. With DIE_AFTER the process kills itself after
so many images.
"""

import json
import os
import signal
import sys
from pathlib import Path
from xml.etree import ElementTree as ET

import numpy as np
import torch
from PIL import Image
from torch import distributed as dist
from torch import nn

from detectron2.data import DatasetCatalog, MetadataCatalog, build_detection_test_loader
from detectron2.evaluation import (
    CityscapesInstanceEvaluator,
    CityscapesSemSegEvaluator,
    COCOEvaluator,
    COCOPanopticEvaluator,
    LVISEvaluator,
    PascalVOCDetectionEvaluator,
    RotatedCOCOEvaluator,
    SemSegEvaluator,
    inference_on_dataset,
    resumable_evaluation,
)
from detectron2.evaluation.cityscapes import scores as city
from detectron2.evaluation.lvis import evaluator as lvis_evaluation
from detectron2.evaluation.panoptic.evaluator import id2rgb
from detectron2.structures import Boxes, Instances, RotatedBoxes
from detectron2.utils import comm

H, W = 60, 80
THINGS = [label.name for label in city.INSTANCE]
STUFF = [label.name for label in city.SEMANTIC]


def identity(record):
    return record


def boxes_of(seed):
    """Objects of an image: boxes XYXY and classes; some images have none."""
    rng = np.random.default_rng(seed)
    n = int(rng.integers(0, 6))
    x, y = rng.integers(0, 45, n), rng.integers(0, 35, n)
    boxes = np.stack([x, y, x + rng.integers(8, 35, n), y + rng.integers(8, 25, n)], 1)
    return boxes.astype(np.float64), rng.integers(0, 3, n)


def paint(boxes, values, background):
    labels = np.full((H, W), background, dtype=np.int64)
    for (x0, y0, x1, y1), value in zip(boxes.astype(int).tolist(), values):
        labels[y0:y1, x0:x1] = value
    return labels


def keypoints_of(boxes):
    steps = np.linspace(0, 1, 17)[None, :, None]
    return boxes[:, None, :2] + steps * (boxes[:, None, 2:] - boxes[:, None, :2])


def write_data(folder, images):
    """All label files; every image has the same objects in each format."""
    annotations, rotated, panoptic, names = [], [], [], []
    (folder / "gtFine" / "val" / "x").mkdir(parents=True)
    (folder / "Annotations").mkdir()
    (folder / "ImageSets" / "Main").mkdir(parents=True)
    for i in images:
        boxes, classes = boxes_of(i)
        root = ET.Element("annotation")
        for k, (box, c) in enumerate(zip(boxes.tolist(), classes.tolist())):
            x0, y0, x1, y1 = box
            points = np.concatenate([keypoints_of(boxes[k : k + 1])[0], np.full((17, 1), 2)], 1)
            entry = {
                "id": len(annotations) + 1, "image_id": i, "category_id": c + 1, "iscrowd": int(k == 4),
                "bbox": [x0, y0, x1 - x0, y1 - y0], "area": (x1 - x0) * (y1 - y0),
                "segmentation": [[x0, y0, x1, y0, x1, y1, x0, y1]],
                "keypoints": points.reshape(-1).tolist(), "num_keypoints": 17,
            }  # fmt: skip
            annotations.append(entry)
            angle = [(x0 + x1) / 2, (y0 + y1) / 2, x1 - x0, y1 - y0, float(10 * k)]
            rotated.append({k: v for k, v in entry.items() if k != "segmentation"} | {"bbox": angle})
            node = ET.SubElement(root, "object")
            ET.SubElement(node, "name").text = THINGS[c]
            corners = ET.SubElement(node, "bndbox")
            for tag, value in zip(("xmin", "ymin", "xmax", "ymax"), box):
                ET.SubElement(corners, tag).text = str(int(value) + 1)
        ET.ElementTree(root).write(folder / "Annotations" / f"{i}.xml")
        names.append(str(i))
        labels = paint(boxes, [city.INSTANCE[c].id for c in classes], 7)
        instances = paint(boxes, [city.INSTANCE[c].id * 1000 + k for k, c in enumerate(classes)], 7)
        where = folder / "gtFine" / "val" / "x"
        Image.fromarray(labels.astype(np.uint8)).save(where / f"{i}_gtFine_labelIds.png")
        Image.fromarray(instances.astype(np.uint16)).save(where / f"{i}_gtFine_instanceIds.png")
        ids = [s.id for s in city.SEMANTIC]
        Image.fromarray(np.searchsorted(ids, labels).astype(np.uint8)).save(folder / f"{i}_sem.png")
        segments = paint(boxes, range(2, len(boxes) + 2), 1)
        Image.fromarray(id2rgb(segments)).save(folder / f"{i}_pan.png")
        infos = [{"id": 1, "category_id": 50, "iscrowd": 0}]
        infos += [{"id": k + 2, "category_id": int(c) + 1, "iscrowd": 0} for k, c in enumerate(classes)]
        present = np.unique(segments)
        infos = [s for s in infos if s["id"] in present]
        panoptic.append({"image_id": i, "file_name": f"{i}_pan.png", "segments_info": infos})
    (folder / "ImageSets" / "Main" / "val.txt").write_text("\n".join(names))
    records = [{"id": i, "height": H, "width": W, "file_name": f"{i}.jpg"} for i in images]
    categories = [{"id": k + 1, "name": THINGS[k], "frequency": "rcf"[k]} for k in range(3)]
    for r in records:
        own = {a["category_id"] for a in annotations if a["image_id"] == r["id"]}
        r["neg_category_ids"] = [c for c in (1, 2, 3) if c not in own and r["id"] % 2]
        r["not_exhaustive_category_ids"] = sorted(own)[:1] if r["id"] % 3 == 0 else []
    for name, objects in (("coco", annotations), ("rotated", rotated)):
        content = {"images": records, "annotations": objects, "categories": categories}
        (folder / f"{name}.json").write_text(json.dumps(content))
    kinds = [{"id": k + 1, "name": THINGS[k], "isthing": 1} for k in range(3)]
    kinds.append({"id": 50, "name": "road", "isthing": 0})
    (folder / "panoptic.json").write_text(json.dumps({"annotations": panoptic, "categories": kinds}))


def register(folder, images):
    records = [
        {
            "file_name": str(folder / "leftImg8bit" / "val" / "x" / f"{i}_leftImg8bit.png"), "image_id": i,
            "height": H, "width": W, "sem_seg_file_name": str(folder / f"{i}_sem.png"),
        }
        for i in images
    ]  # fmt: skip
    common = dict(
        thing_classes=THINGS[:3], stuff_classes=STUFF, ignore_label=255, dirname=str(folder), split="val", year=2012,
        panoptic_json=str(folder / "panoptic.json"), panoptic_root=str(folder), gt_dir=str(folder / "gtFine" / "val"),
        thing_dataset_id_to_contiguous_id={1: 0, 2: 1, 3: 2}, stuff_dataset_id_to_contiguous_id={50: 0},
    )  # fmt: skip
    for name in ("every_coco", "every_rotated", "every_semantic"):
        DatasetCatalog.register(name, lambda: records)
        kind = {"every_rotated": "rotated"}.get(name, "coco")
        MetadataCatalog.get(name).set(json_file=str(folder / f"{kind}.json"), **common)
    del MetadataCatalog.get("every_semantic").stuff_dataset_id_to_contiguous_id
    return records


class Model(nn.Module):
    """Answers that depend on the image alone: objects moved a little, with many equal scores."""

    images_left = float("inf")  # until the process kills itself

    def __init__(self, rotated=False):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(3))
        self.rotated = rotated

    def forward(self, batch):
        if Model.images_left <= 0:
            os.kill(os.getpid(), signal.SIGKILL)
        Model.images_left -= len(batch)
        return [self.answer(record["image_id"]) for record in batch]

    def answer(self, image):
        rng = np.random.default_rng(1000 + image)
        truth, classes = boxes_of(image)
        boxes = np.repeat(truth, 3, axis=0) + rng.integers(-2, 3, (3 * len(truth), 4))
        boxes[:, 2:] = np.maximum(boxes[:, 2:], boxes[:, :2] + 2)
        boxes = np.clip(boxes, 0, [W, H, W, H])
        labels = np.where(rng.random(len(boxes)) < 0.8, np.repeat(classes, 3), rng.integers(0, 3, len(boxes)))
        scores = torch.from_numpy(np.round(rng.random(len(boxes)), 1)).float()
        found = Instances((H, W), scores=scores, pred_classes=torch.from_numpy(labels))
        if self.rotated:
            turned = np.concatenate([(boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]], 1)
            turned = np.concatenate([turned, rng.integers(0, 40, (len(boxes), 1))], 1)
            found.pred_boxes = RotatedBoxes(torch.from_numpy(turned).float())
            return {"instances": found}
        found.pred_boxes = Boxes(torch.from_numpy(boxes).float())
        found.pred_masks = torch.from_numpy(
            np.stack([paint(b[None], [1], 0) for b in boxes]).astype(bool)
            if len(boxes)
            else np.zeros((0, H, W), bool)
        )
        moved = keypoints_of(boxes) + rng.normal(0, 1, (len(boxes), 17, 2))
        found.pred_keypoints = torch.from_numpy(
            np.concatenate([moved, np.ones((len(boxes), 17, 1))], 2)
        ).float()
        proposals = Instances((H, W), proposal_boxes=found.pred_boxes, objectness_logits=scores)
        semantic = np.searchsorted([s.id for s in city.SEMANTIC], paint(truth, [24] * len(truth), 7))
        semantic[:: 2 + image % 5] = rng.integers(0, 19)
        segments = paint(np.clip(truth + rng.integers(-1, 2), 0, W), range(2, len(truth) + 2), 1)
        infos = [{"id": 1, "category_id": 0, "isthing": False}]
        infos += [{"id": k + 2, "category_id": int(c), "isthing": True} for k, c in enumerate(classes)]
        return {
            "instances": found,
            "proposals": proposals,
            "sem_seg": nn.functional.one_hot(torch.from_numpy(semantic), 19).permute(2, 0, 1),
            "panoptic_seg": (torch.from_numpy(segments).int(), infos),
        }


def runs(folder):
    """Name, evaluators and whether boxes are rotated, of each run."""
    out = str(folder / "out")
    lvis_evaluation._FIXED_PER_CLASS = 7
    yield "hotcoco", [COCOEvaluator("every_coco", output_dir=out)], False
    yield "pycocotools", [COCOEvaluator("every_coco", engine="pycocotools", max_dets_per_image=5)], False
    yield "rotated", [RotatedCOCOEvaluator("every_rotated", output_dir=str(folder / "rot"))], True
    yield "lvis", [LVISEvaluator("every_coco", output_dir=out)], False
    yield "lvis_capped", [LVISEvaluator("every_coco", max_dets_per_image=4)], False
    yield "lvis_fixed", [LVISEvaluator("every_coco", fixed_ap=True)], False
    yield "voc", [PascalVOCDetectionEvaluator("every_coco")], False
    yield "city_instances", [CityscapesInstanceEvaluator("every_coco")], False
    yield "city_semantic", [CityscapesSemSegEvaluator("every_coco")], False
    together = [
        SemSegEvaluator("every_semantic", output_dir=out),
        COCOEvaluator("every_coco", tasks=("segm",)),
        COCOPanopticEvaluator("every_coco", str(folder / "pan")),
    ]
    yield "together", together, False


def main(rank, world, folder, count, die_after=None):
    torch.set_num_threads(1)
    Model.images_left = float("inf") if die_after is None else die_after
    folder = Path(folder)
    if world > 1:
        store = f"file://{folder}/store_{os.environ['STORE']}"
        dist.init_process_group("gloo", init_method=store, rank=rank, world_size=world)
        comm.create_local_process_group(world)
    images = [(7 * k) % count + 1 for k in range(count)]
    if rank == 0 and not (folder / "panoptic.json").exists():
        write_data(folder, images)
    comm.synchronize()
    records = register(folder, images)
    figures, seen = {}, {}
    with resumable_evaluation(str(folder / "records"), resume=True):
        for name, evaluators, rotated in runs(folder):
            model = Model(rotated)
            counted = []
            loader = build_detection_test_loader(records, mapper=identity, batch_size=2)
            results = inference_on_dataset(
                model, loader, evaluators, callbacks={"after_inference": lambda: counted.append(1)}
            )
            seen[name] = len(counted)
            assert rank == 0 or not results
            figures[name] = {
                f"{t}/{m}": float(v).hex() for t, metrics in results.items() for m, v in metrics.items()
            }
    if rank == 0:
        (folder / "figures.json").write_text(json.dumps(figures))
        (folder / "batches.json").write_text(json.dumps(seen))
    if world > 1:
        dist.destroy_process_group()


if __name__ == "__main__":
    numbers = [int(a) for a in sys.argv[4:]]
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], *numbers)
