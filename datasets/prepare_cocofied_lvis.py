#!/usr/bin/env python
"""Give LVIS v0.5 annotations COCO's 80 categories, matched by the meaning of their names (WordNet synsets).

    python datasets/prepare_cocofied_lvis.py SYNSETS.json [FOLDER]

SYNSETS.json lists COCO's categories with their synset, ``[{"coco_cat_id": 1, "synset": "person.n.01"}, …]``; the LVIS
authors publish it with their API (``coco_to_synset.json``; a mapping of that form is understood too). FOLDER contains
lvis (default: $DETECTRON2_DATASETS, else datasets). LVIS categories that are none of COCO's are dropped, and category
lists of images (``neg_category_ids``, ``not_exhaustive_category_ids``) are translated.
"""

import json
import os
import sys
from pathlib import Path


def read_synsets(file: Path) -> dict[str, int]:
    """Synset -> category id of COCO."""
    content = json.loads(file.read_text())
    rows = content.values() if isinstance(content, dict) else content
    return {row["synset"]: row["coco_cat_id"] for row in rows}


def cocofy(content: dict, coco_id_of: dict[str, int], coco_categories: list[dict]) -> dict:
    """The content of an LVIS file with COCO's categories."""
    new_id = {c["id"]: coco_id_of[c["synset"]] for c in content["categories"] if c["synset"] in coco_id_of}
    annotations = [
        {**a, "category_id": new_id[a["category_id"]]}
        for a in content.get("annotations", [])
        if a["category_id"] in new_id
    ]
    images = []
    for image in content["images"]:
        changed = dict(image)
        for key in ("neg_category_ids", "not_exhaustive_category_ids"):
            if key in image:
                changed[key] = sorted({new_id[c] for c in image[key] if c in new_id})
        images.append(changed)
    used = {
        new: next(c for c in content["categories"] if new_id.get(c["id"]) == new)
        for new in set(new_id.values())
    }
    categories = []
    for category in coco_categories:
        if not category["isthing"]:
            continue
        source = used.get(category["id"], {"synset": "", "synonyms": [category["name"]], "frequency": "f"})
        categories.append({**source, "id": category["id"], "name": category["name"]})
    return {**content, "categories": categories, "annotations": annotations, "images": images}


def main() -> None:
    from detectron2.data.datasets.builtin_meta import COCO_CATEGORIES

    if len(sys.argv) < 2:
        raise SystemExit(__doc__)
    synsets = read_synsets(Path(sys.argv[1]))
    root = Path(sys.argv[2] if len(sys.argv) > 2 else os.getenv("DETECTRON2_DATASETS", "datasets")) / "lvis"
    for split in ("lvis_v0.5_train", "lvis_v0.5_val"):
        content = cocofy(json.loads((root / f"{split}.json").read_text()), synsets, COCO_CATEGORIES)
        target = root / f"{split}_cocofied.json"
        target.write_text(json.dumps(content))
        print(f"{target}: {len(content['annotations'])} annotations")


if __name__ == "__main__":
    main()
