"""DensePose: data sets, loaders, mapper, evaluation, visualizers."""
import json
import os
import pickle

import numpy as np

import common
import datasets_ as D
import fill
import projects_ as P
from pack import case

BASE = "DensePose/configs/densepose_rcnn_R_50_FPN_s1x.yaml"
HEAD = "MODEL.ROI_DENSEPOSE_HEAD."
URL = "https://dl.fbaipublicfiles.com/densepose/"
IMAGES = [(3, 120, 160), (9, 150, 100), (4, 90, 90)]


def write_json(name, seed, cats=((1, "person"),), images=IMAGES, per_image=(3, 2, 2), cse=None, vertices=None, without=1, extra=None, min_size=45):
    """A COCO file with DensePose annotations; in every image the instance number `without` has none."""
    anns, imgs = [], []
    for k, (iid, h, w) in enumerate(images):
        imgs.append({"id": iid, "height": h, "width": w, "file_name": f"{iid:06d}.png", **(extra(iid) if extra else {})})
        b = fill.boxes((seed, iid), per_image[k], h, w, min_size)
        polys = fill.polygons((seed, iid), b, 2)
        for i in range(per_image[k]):
            x0, y0, x1, y1 = (round(float(v), 2) for v in b[i])
            a = {"id": len(anns) + 1, "image_id": iid, "category_id": cats[(i + k) % len(cats)][0], "iscrowd": 0, "bbox": [x0, y0, round(x1 - x0, 2), round(y1 - y0, 2)], "area": float((x1 - x0) * (y1 - y0)), "segmentation": [[round(float(v), 2) for v in p] for p in polys[i]]}
            if i != without:
                a.update(P.densepose_ann((seed, iid, i), 24, cse=cse, vertices=vertices))
            anns.append(a)
    d = {"images": imgs, "annotations": anns, "categories": [{"id": i, "name": n} for i, n in cats]}
    with open(name + ".json", "w") as f:
        json.dump(d, f)
    return d


def register(name, seed, images_too=False, **kw):
    from detectron2.data import DatasetCatalog

    coco = P.project("densepose.data.datasets.coco")
    D.forget(name)
    d = write_json(name, seed, **kw)
    coco.register_dataset(coco.CocoDatasetInfo(name=name, images_root=os.path.abspath("imgs"), annotations_fpath=os.path.abspath(name + ".json")))
    if images_too:
        for iid, h, w in kw.get("images", IMAGES):
            D.save_image(f"imgs/{iid:06d}.png", (seed, iid), h, w)
    P.serve(URL, {"data/UV_symmetry_transforms.mat": P.save_transform_data("uv.mat")})
    assert name in DatasetCatalog.list()
    return d


def _records(out, key, ds):
    out.put(key + ".n", len(ds))
    out.put(key + ".keys", [" ".join(sorted(d)) for d in ds[:1]])
    out.put(key + ".ids", [d["image_id"] for d in ds])
    out.put(key + ".files", [os.path.basename(d["file_name"]) for d in ds])
    out.put(key + ".ann_keys", [" ".join(sorted(a)) for d in ds for a in d["annotations"]])
    out.put(key + ".categories", [[a["category_id"] for a in d["annotations"]] for d in ds])
    out.put(key + ".boxes", [a["bbox"] for d in ds for a in d["annotations"]])
    out.put(key + ".modes", [int(a["bbox_mode"]) for d in ds for a in d["annotations"]])


@case("proj_densepose_load_json", rtol=1e-5, atol=1e-4)
def load_json(out):
    from detectron2.data import DatasetCatalog, MetadataCatalog

    register("pack_dp", "dp", cats=((1, "person"), (7, "ape")), extra=lambda i: {"frame_id": i + 1, "vid_id": 5})
    _records(out, "coco", DatasetCatalog.get("pack_dp"))
    m = MetadataCatalog.get("pack_dp")
    out.put("categories", {str(k): v for k, v in m.categories.items()})
    out.put("frames", {str(k): {str(a): os.path.basename(b) for a, b in v.items()} for k, v in m.video_frame_mapping.items()})
    coco = P.project("densepose.data.datasets.coco")
    out.put("metadata", coco.get_metadata("base/"))
    out.put("metadata_none", coco.get_metadata(None))
    lv = P.project("densepose.data.datasets.lvis")
    d = json.load(open("pack_dp.json"))
    for i in d["images"]:
        i["coco_url"] = f"http://images.cocodataset.org/train2017/{i['id']:012d}.jpg"
        i["not_exhaustive_category_ids"], i["neg_category_ids"] = [], []
        del i["file_name"]
    d["annotations"].reverse()
    json.dump(d, open("lv.json", "w"))
    D.forget("lvis_v1_pack")
    lv.register_dataset(coco.CocoDatasetInfo(name="lvis_v1_pack", images_root="roots", annotations_fpath=os.path.abspath("lv.json")))
    r = DatasetCatalog.get("lvis_v1_pack")
    out.put("lvis.ids", [x["image_id"] for x in r])
    out.put("lvis.files", [x["file_name"] for x in r])
    out.put("lvis.keys", [" ".join(sorted(x)) for x in r[:1]])
    out.put("lvis.ann_keys", sorted({k for x in r for a in x["annotations"] for k in a}))


@case("proj_densepose_category_maps", rtol=1e-5, atol=1e-4)
def category_maps(out):
    from detectron2.data import MetadataCatalog

    b = P.project("densepose.data.build")
    for k, opts, white, maps in (
        ("plain", (), {}, {}), ("white", (), {"pack_m2": [3, 7]}, {}), ("mapped", (), {}, {"pack_m2": {"3": 1, "7": 1}}), ("both", (), {"pack_m1": [1], "pack_m2": [1, 7]}, {"pack_m2": {"7": 1}}),
    ):
        register("pack_m1", "m1", cats=((1, "person"),))
        register("pack_m2", "m2", cats=((1, "person"), (3, "dog"), (7, "ape")), without=9)
        cfg = P.project_cfg(BASE, "DATASETS.TRAIN", ("pack_m1", "pack_m2"), "DATASETS.CLASS_TO_MESH_NAME_MAPPING.0", "smpl_27554", *opts)
        from detectron2.config import CfgNode

        cfg.DATASETS.WHITELISTED_CATEGORIES = CfgNode(white, new_allowed=True)
        cfg.DATASETS.CATEGORY_MAPS = CfgNode(maps, new_allowed=True)
        seen = []

        def mapper(d):
            seen.append((d["image_id"], d["dataset"], [a["category_id"] for a in d["annotations"]]))
            return d

        cfg.DATALOADER.NUM_WORKERS = 0
        loader = b.build_detection_train_loader(cfg, mapper=lambda d: d)
        for d in ("pack_m1", "pack_m2"):
            m = MetadataCatalog.get(d)
            out.put(f"{k}.{d}.classes", m.thing_classes)
            out.put(f"{k}.{d}.contiguous", [[int(x), int(y)] for x, y in sorted(m.thing_dataset_id_to_contiguous_id.items())])
            out.put(f"{k}.{d}.merged", [[int(x), int(y)] for x, y in sorted(m.thing_dataset_id_to_merged_id.items())])
        out.put(k + ".mesh", {str(a): v for a, v in MetadataCatalog.get("pack_m1").class_to_mesh_name.items()})
        ds = b.combine_detection_dataset_dicts(["pack_m1", "pack_m2"])
        out.put(k + ".categories", [[a["category_id"] for a in d["annotations"]] for d in ds])
        test = b.build_detection_test_loader(cfg, "pack_m2", mapper=mapper)
        n = [x[0]["image_id"] for x in test]
        out.put(k + ".test", n)
        out.put(k + ".test.categories", [s[2] for s in seen])
        assert loader is not None
    coco = P.project("densepose.data.datasets.coco")
    out.put("inverse", sorted(coco.get_contiguous_id_to_category_id_map(MetadataCatalog.get("pack_m2")).items()))


@case("proj_densepose_mapper", rtol=1e-4, atol=0.02)
def mapper(out):
    from detectron2.data import DatasetCatalog
    from detectron2.structures import Boxes

    build = P.project("densepose.data.dataset_mapper")
    register("pack_map", "map", images_too=True)
    ds = DatasetCatalog.get("pack_map")
    for k, opts in {"usual": (), "masks": (HEAD + "COARSE_SEGM_TRAINED_BY_MASKS", True), "rgb": ("INPUT.FORMAT", "RGB")}.items():
        cfg = P.project_cfg(BASE, "DATASETS.TRAIN", ("pack_map",), "DATASETS.TEST", ("pack_map",), "INPUT.MIN_SIZE_TRAIN", (100,), "INPUT.MAX_SIZE_TRAIN", 140, "INPUT.MIN_SIZE_TEST", 110, "INPUT.MAX_SIZE_TEST", 200, "INPUT.RANDOM_FLIP", "none", *opts)
        m = build.DatasetMapper(cfg, True)
        out.put(k + ".augmentation", [type(a).__name__ for a in m.augmentation])
        for i in range(2):
            r = m(ds[i])
            out.put(f"{k}.{i}.keys", sorted(r))
            out.put(f"{k}.{i}.image", [list(r["image"].shape), str(r["image"].dtype)][0])
            out.put(f"{k}.{i}.mean", r["image"].mean((1, 2)))
            inst = r["instances"]
            out.put(f"{k}.{i}.fields", sorted(inst.get_fields()))
            out.put(f"{k}.{i}.boxes", inst.gt_boxes.tensor)
            if inst.has("gt_masks"):
                out.put(f"{k}.{i}.masks", inst.gt_masks.tensor.flatten(1).float().sum(1) / 100)
            for j, d in enumerate(inst.gt_densepose):
                out.put(f"{k}.{i}.dp{j}", "None" if d is None else {a: getattr(d, a) for a in ("x", "y", "i", "u", "v")})
                if d is not None:
                    out.put(f"{k}.{i}.dp{j}.segm", [int((d.segm == c).sum()) for c in range(15)])
        r = build.DatasetMapper(cfg, False)(ds[0])
        out.put(k + ".test", [sorted(r), list(r["image"].shape)][1])
        out.put(k + ".test.keys", sorted(r))
    cfg.INPUT.ROTATION_ANGLES = [10]
    a = build.build_augmentation(cfg, True)
    out.put("rotation", [type(x).__name__ for x in a] + [type(x).__name__ for x in build.build_augmentation(cfg, False)])
    assert Boxes


@case("proj_densepose_loaders", rtol=1e-4, atol=1e-3)
def loaders(out):
    import torch
    from detectron2.structures import Boxes, Instances

    d = P.project("densepose.data")
    C = d.CombinedDataLoader
    batches = [b for b, _ in zip(C([[["a", "b"], ["c"]] * 50, [["x"]] * 90], batch_size=4, ratios=[1, 0]), range(5))]
    out.put("combined", batches)
    both = [b for b, _ in zip(C([[["a"]] * 4000, [["x"]] * 4000], batch_size=5, ratios=[0.8, 0.2]), range(400))]
    out.put("combined.share", float(np.mean([v == "a" for b in both for v in b]) > 0.74 and np.mean([v == "a" for b in both for v in b]) < 0.86))
    out.put("combined.lens", sorted({len(b) for b in both}))
    out.put("combined.end", len(list(C([[["a"]] * 3], batch_size=2, ratios=[1]))))
    for i, (h, w) in enumerate(((20, 30), (24, 18))):
        D.save_image(f"im{i}.png", ("list", i), h, w)
    ds = d.ImageListDataset(["im0.png", "im1.png", "missing.png"], ["cat", "dog", "eel"])
    out.put("images", [list(ds[i]["images"].shape) for i in range(3)])
    out.put("images.categories", [str(ds[i]["categories"]) for i in range(3)])
    out.put("images.mean", [ds[i]["images"].mean((0, 2, 3)) for i in range(2)])
    out.put("images.len", len(ds))
    R = P.project("densepose.data.transform").ImageResizeTransform
    t = R(min_size=40, max_size=50)
    r = d.ImageListDataset(["im0.png"], "cat", t)[0]
    out.put("resized", r["images"], sample=512)
    out.put("resized.shape", r["images"].shape)
    out.raises("lengths", d.ImageListDataset, ["a"], ["x", "y"])
    x = torch.arange(2 * 3 * 6 * 8, dtype=torch.uint8).reshape(2, 3, 6, 8)
    out.put("resize", R(9, 100)(x))
    out.put("resize.dtype", str(R(9, 100)(x).dtype))

    def model_output(n):
        return {"instances": Instances((20, 20), scores=torch.linspace(1, 0, n), pred_boxes=Boxes(torch.zeros(n, 4)))}

    f = d.ScoreBasedFilter(min_score=0.5)
    out.put("filter", [len(o["instances"]) for o in f([model_output(5), model_output(1)])])
    out.put("filter.default", d.ScoreBasedFilter().min_score)

    class Model(torch.nn.Module):
        device = torch.device("cpu")

        def forward(self, batch):
            calls.append(len(batch))
            return [model_output(int(b["image"].sum())) for b in batch]

    for k, kw in {"usual": {}, "small": dict(batch_size=3, inference_batch_size=2), "drop": dict(batch_size=3, drop_last=True), "filtered": dict(data_filter=d.ScoreBasedFilter(0.7), category_to_class_mapping={"b": 4}), "sampled": dict(data_sampler=lambda o: [x for x in o if len(x["instances"]) > 2])}.items():
        calls = []
        data = [[{"images": torch.full((n, 1, 1, 1), float(n)), "categories": [c] * n}] for n, c in ((1, "a"), (4, "b"), (2, "c"))] + [[{"images": torch.zeros(0, 1, 1, 1), "categories": []}]]
        res = list(d.InferenceBasedLoader(Model(), data, shuffle=False, **kw))
        out.put(k + ".calls", calls)
        out.put(k, [[len(x["instances"]) for x in b] for b in res])
        out.put(k + ".classes", [[int(x["instances"].dataset_classes[0]) for x in b] for b in res])
    u = P.project("densepose.data.utils")
    out.put("paths", [u.maybe_prepend_base_path("b", p) for p in ("x/y", "/x", "http://x", "s3://x")] + [u.maybe_prepend_base_path(None, "x")])
    out.put("local", [u.is_relative_local_path(p) for p in ("x/y", "/x", "http://x")])
    cfg = P.new_cfg("DensePose")
    P.set_key(cfg, "DATASETS.CLASS_TO_MESH_NAME_MAPPING.3", "m")
    out.put("class_to_mesh", {str(k): v for k, v in u.get_class_to_mesh_name_mapping(cfg).items()})


@case("proj_densepose_video", rtol=0, atol=0)
def video(out):
    from detectron2.config import CfgNode

    v = P.project("densepose.data.video")
    t = list(range(0, 40, 3))
    out.put("first", v.FirstKFramesSelector(4)(t))
    out.put("last", v.LastKFramesSelector(4)(t))
    out.put("first_all", v.FirstKFramesSelector(100)(t))
    r = v.RandomKFramesSelector(5)(t)
    out.put("random", [len(r), len(set(r)), set(r) <= set(t)])
    out.put("random_all", sorted(v.RandomKFramesSelector(50)(t)))
    out.put("strategies", sorted(s.value for s in v.FrameSelectionStrategy))
    b = P.project("densepose.data.build")
    for s in ("first_k", "last_k", "random_k", "all"):
        f = b.build_frame_selector(CfgNode({"STRATEGY": s, "NUM_IMAGES": 2}))
        out.put("built." + s, "None" if f is None else len(f(t)))
    tr = b.build_transform(CfgNode({"TYPE": "resize", "MIN_SIZE": 4, "MAX_SIZE": 8}), "image")
    out.put("transform", [type(tr).__name__, str(tr.min_size), str(tr.max_size)])
    out.raises("transform_type", b.build_transform, CfgNode({"TYPE": "x"}), "image")
    with open("list.txt", "w") as f:
        f.write("a.mp4\nsub/b.mp4\n/abs/c.mp4\n")
    out.put("list", v.video_list_from_file("list.txt"))
    out.put("list_base", v.video_list_from_file("list.txt", "base"))
    ds = v.VideoKeyframeDataset(["missing.mp4", "none.mp4"], category_list=["x", "y"])
    out.put("len", len(ds))
    m = ds[0]
    out.put("missing", [list(m["images"].shape)])
    out.put("missing.categories", str(m["categories"]))
    out.put("keyframes_missing", v.list_keyframes("missing.mp4"))
    out.put("read_missing", len(v.read_keyframes("missing.mp4", [0, 1])))
    cfg = P.new_cfg("DensePose")
    d = P.project("densepose.config")
    out.put("has_loaders", b.has_inference_based_loaders(cfg))
    cfg.BOOTSTRAP_DATASETS = [{"DATASET": "chimpnsee", "RATIO": 0.3, "IMAGE_LOADER": {"TYPE": "video_keyframe", "SELECT": {"STRATEGY": "random_k", "NUM_IMAGES": 4}}, "DATA_SAMPLER": {"TYPE": "densepose_uniform", "COUNT_PER_CLASS": 8}, "FILTER": {"TYPE": "detection_score", "MIN_VALUE": 0.8}}]
    d.load_bootstrap_config(cfg)
    x = cfg.BOOTSTRAP_DATASETS[0]
    out.put("bootstrap", [type(x).__name__, x.DATASET, str(x.RATIO), x.IMAGE_LOADER.SELECT.STRATEGY, str(x.INFERENCE.OUTPUT_BATCH_SIZE), str(x.DATA_SAMPLER.COUNT_PER_CLASS)])
    out.put("has_loaders2", b.has_inference_based_loaders(cfg))
    out.put("filter", b.build_data_filter(x.FILTER).min_score)
    out.raises("filter_type", b.build_data_filter, CfgNode({"TYPE": "x"}))
    for s in ("densepose_uniform", "densepose_UV_confidence", "densepose_fine_segm_confidence", "densepose_coarse_segm_confidence"):
        b.build_data_sampler(cfg, CfgNode({"TYPE": s, "COUNT_PER_CLASS": 3}), None)
    out.raises("sampler_type", b.build_data_sampler, cfg, CfgNode({"TYPE": "x"}), None)
    out.put("factories", [str(k.value) for k in b.BootstrapDatasetFactoryCatalog])


@case("proj_densepose_registered", rtol=0, atol=0)
def registered(out):
    from detectron2.data import DatasetCatalog, MetadataCatalog

    P.project("densepose")
    P.project("point_sup")
    with open(os.path.join(P.HERE, "zoo", "projects_metadata.json")) as f:
        facts = json.load(f)
    bad = []
    for n, d in facts["datasets"].items():
        if n not in DatasetCatalog.list():
            bad.append(n)
            continue
        m = MetadataCatalog.get(n).as_dict()
        root = os.environ.get("DETECTRON2_DATASETS", "datasets") if d["project"] == "point_sup" else "datasets"
        for k, v in d["metadata"].items():
            if isinstance(v, dict):
                v = MetadataCatalog.get("coco_2017_train").as_dict()[k]
            got = m.get(k)
            if hasattr(got, "name") and hasattr(got, "value"):
                got = f"{type(got).__name__}.{got.name}"
            if got != v and not (isinstance(v, str) and got == v.replace("datasets", root, 1)):
                bad.append(f"{n}.{k}")
    out.put("wrong", bad)
    c = P.project("densepose.data.meshes.catalog").MeshCatalog
    out.put("meshes", [str([m["name"], c.get_mesh_id(m["name"]) == m["id"], c[m["name"]].data == m["data"], c[m["name"]].texcoords == m["texcoords"], c[m["name"]].symmetry == m["symmetry"], c[m["name"]].geodists == m["geodists"]]) for m in facts["meshes"]])


# ------------------------------------------------------------------ evaluation
def smpl_files(n=240):
    """Small stand-ins for the three files of the evaluation: n vertices, 10 for each part."""
    import scipy.io

    part = np.arange(n) % 24 + 1
    u = fill.uniform("smpl u", n)
    v = fill.uniform("smpl v", n)
    scipy.io.savemat("SMPL_subdiv.mat", {"U_subdiv": u[:, None], "V_subdiv": v[:, None], "Part_ID_subdiv": part[:, None].astype(np.uint8)})
    scipy.io.savemat("SMPL_SUBDIV_TRANSFORM.mat", {"index": (np.arange(n) + 1)[:, None]})
    xyz = fill.normal("smpl xyz", n, 3) * 0.15 + fill.normal("smpl part", 24, 3)[part - 1] * 0.3
    i, j = np.tril_indices(n, -1)  # the pair (i, j), j < i, stands at i (i - 1) / 2 + j
    with open("Pdist_matrix.pkl", "wb") as f:
        pickle.dump({"Pdist_matrix": np.sqrt(((xyz[i] - xyz[j]) ** 2).sum(1))[:, None].astype(np.float32)}, f)
    return {"data/" + k: k for k in ("SMPL_subdiv.mat", "SMPL_SUBDIV_TRANSFORM.mat", "Pdist_matrix.pkl")}


def eval_dataset(name, seed, cats=((1, "person"),), **kw):
    from detectron2.data import DatasetCatalog, MetadataCatalog

    d = register(name, seed, cats=cats, per_image=(4, 4, 3), without=None, min_size=30, **kw)
    DatasetCatalog.get(name)
    m = MetadataCatalog.get(name)
    m.thing_dataset_id_to_contiguous_id = {c: i for i, (c, _) in enumerate(cats)}
    m.thing_classes = [n for _, n in cats]
    m.class_to_mesh_name = {i: kw.get("cse") or "x" for i in range(len(cats))}
    return d


def near_predictions(d, iid, kind, classes=1, mesh_emb=None, size=28, noise=1.5):
    """Predictions that place the annotated parts (or vertices) about where they were annotated."""
    import torch
    from detectron2.structures import Boxes, Instances

    img = [i for i in d["images"] if i["id"] == iid][0]
    anns = [a for a in d["annotations"] if a["image_id"] == iid]
    cats = [c["id"] for c in d["categories"]]
    n = len(anns)
    b = np.asarray([[a["bbox"][0], a["bbox"][1], a["bbox"][0] + a["bbox"][2], a["bbox"][1] + a["bbox"][3]] for a in anns])
    b = b + noise * fill.normal((iid, kind, "n"), n, 4)
    inst = Instances((img["height"], img["width"]))
    inst.pred_boxes = Boxes(torch.from_numpy(b.astype(np.float32)))
    inst.pred_boxes.clip(inst.image_size)
    inst.scores = torch.from_numpy(np.round(fill.uniform((iid, kind, "s"), n, 0.3, 1), 4).astype(np.float32))
    inst.pred_classes = torch.tensor([cats.index(a["category_id"]) for a in anns])
    coarse = torch.zeros(n, 2, size, size)
    for i, a in enumerate(anns):
        m = sum(D_mask(r) for r in a["dp_masks"] if r)
        coarse[i, 1] = torch.nn.functional.interpolate(torch.from_numpy((m > 0).astype(np.float32))[None, None], (size, size), mode="bilinear")[0, 0] - 0.4
    yy, xx = np.mgrid[0:size, 0:size] * 256.0 / size + 128.0 / size
    near = [np.argmin([(xx - px) ** 2 + (yy - py) ** 2 for px, py in zip(a["dp_x"], a["dp_y"])], 0) for a in anns]
    if kind == "chart":
        s = P.project("densepose.structures")
        fine, u, v = torch.zeros(n, 25, size, size), torch.zeros(n, 25, size, size), torch.zeros(n, 25, size, size)
        for i, a in enumerate(anns):
            part = torch.from_numpy(np.asarray(a["dp_I"])[near[i]]).long()
            fine[i].scatter_(0, part[None], 5.0)
            u[i] = torch.from_numpy(np.asarray(a["dp_U"])[near[i]]).float() + 0.05 * fill.tensor((iid, i, "u"), size, size)
            v[i] = torch.from_numpy(np.asarray(a["dp_V"])[near[i]]).float()
        inst.pred_densepose = s.DensePoseChartPredictorOutput(coarse_segm=coarse, fine_segm=fine, u=u, v=v)
    else:
        e = torch.stack([mesh_emb[torch.from_numpy(np.asarray(a["dp_vertex"])[near[i]])].permute(2, 0, 1) for i, a in enumerate(anns)])
        inst.pred_densepose = P.project("densepose.structures").DensePoseEmbeddingPredictorOutput(embedding=e + 0.1 * fill.tensor((iid, "e"), *e.shape), coarse_segm=coarse)
    return inst


def D_mask(r):
    import pycocotools.mask as mu

    return mu.decode(r)


def run_eval(ev, d, kind, **kw):
    ev.reset()
    for i in d["images"]:
        ev.process([{"image_id": i["id"], "height": i["height"], "width": i["width"]}], [{"instances": near_predictions(d, i["id"], kind, **kw)}])
    return ev.evaluate()


EV = dict(rtol=2e-3, atol=0.2)


@case("proj_densepose_evaluator", **EV)
def evaluator(out):
    import io

    P.serve(URL, smpl_files())
    E = P.project("densepose").DensePoseCOCOEvaluator
    d = eval_dataset("pack_dpe", "dpe")
    out.put("usual", run_eval(E("pack_dpe", distributed=False), d, "chart"))
    for m in (0.2, 0.4):
        out.put(f"min{m}", run_eval(E("pack_dpe", distributed=False, min_iou_threshold=m, output_dir="o"), d, "chart"))
    out.put("files", os.listdir("o"))
    ts = P.project("densepose.evaluation.tensor_storage")
    schema = {k: ts.SizeData(dtype="float32", shape=(c, 28, 28)) for k, c in (("coarse_segm", 2), ("fine_segm", 25), ("u", 25), ("v", 25))}
    for k, s in {"ram": ts.SingleProcessRamTensorStorage(schema, io.BytesIO()), "file": ts.SingleProcessFileTensorStorage(schema, "s.bin", "wb")}.items():
        out.put(k, run_eval(E("pack_dpe", distributed=False, storage=s), d, "chart"))
    ev = E("pack_dpe", distributed=False)
    ev.reset()
    out.put("nothing", {k: dict(v) for k, v in ev.evaluate().items()})
    ev.process([{"image_id": 3}], [{"instances": near_predictions(d, 3, "chart")}])
    out.put("one_image", ev.evaluate(img_ids=[3]))
    d = eval_dataset("pack_dpe2", "dpe2", cats=((1, "person"), (4, "ape")))
    out.put("two_classes", run_eval(E("pack_dpe2", distributed=False), d, "chart"))
    e = P.project("densepose.evaluation.evaluator")
    r = e.prediction_to_dict(near_predictions(d, 3, "chart"), 3, None, {0: "x"}, False)
    out.put("dict", [sorted(r[0]), sorted(r[0]["segmentation"])])
    out.put("dict.boxes", [x["bbox"] for x in r])
    out.put("dict.labels", [int((x["densepose"].labels_uv_uint8[0] > 0).sum()) for x in r])
    out.put("dict.storage", sorted(e.prediction_to_dict(near_predictions(d, 3, "chart"), 3, None, {0: "x"}, True)[0]))


@case("proj_densepose_evaluator_cse", **EV, tol={r"all_meshes": (1e-3, 1e-4)})
def evaluator_cse(out):
    """With dp_vertex annotations of a mesh that is not smpl_27554 (whose distances are 0.255 on average)."""
    from detectron2.config import CfgNode

    P.serve(URL, {**smpl_files(), "data/cse/mesh_keyvertices_v0.json": "key.json"})
    for n in ("pack_e1", "pack_e2", "pack_e3"):
        P.make_mesh(n, 30)
    with open("key.json", "w") as f:
        json.dump({n: {"nose": 3 + i, "tail": 11 - i, "ear": 20 + i} for i, n in enumerate(("pack_e1", "pack_e2", "pack_e3"))}, f)
    cfg = P.project_cfg("DensePose/configs/cse/densepose_rcnn_R_50_FPN_s1x.yaml", HEAD + "CSE.EMBED_SIZE", 8)
    cfg.MODEL.ROI_DENSEPOSE_HEAD.CSE.EMBEDDERS = CfgNode(new_allowed=True)
    for n in ("pack_e1", "pack_e2", "pack_e3"):
        o = P.embedder_keys(n, 30)
        for k, v in zip(o[::2], o[1::2]):
            P.set_key(cfg, k, v)
    emb = fill.fill_(P.project("densepose.modeling").build_densepose_embedder(cfg), {"": 3.0}).requires_grad_(False)
    E = P.project("densepose").DensePoseCOCOEvaluator
    d = eval_dataset("pack_cse", "cse", cse="pack_e1", vertices=30)
    with P.no_cuda():
        out.put("usual", run_eval(E("pack_cse", distributed=False, evaluator_type="cse", min_iou_threshold=0.2, embedder=emb), d, "cse", mesh_emb=emb("pack_e1")))
        r = run_eval(E("pack_cse", distributed=False, evaluator_type="cse", embedder=emb, should_evaluate_mesh_alignment=True, mesh_alignment_mesh_names=["pack_e1", "pack_e2"]), d, "cse", mesh_emb=emb("pack_e1"))
    out.put("alignment", r["densepose_mesh_alignment"])
    M = P.project("densepose.evaluation.mesh_alignment_evaluator").MeshAlignmentEvaluator
    ge, gps, per = M(emb, None).evaluate()
    out.put("all_meshes", {"ge": ge, "gps": gps, "per": per})
    assert isinstance(d, dict)


@case("proj_densepose_coco_eval", rtol=2e-3, atol=2e-3)
def coco_eval(out):
    """The lower class: its distances, point by point, and its data modes."""
    import io
    from contextlib import redirect_stdout

    from pycocotools.coco import COCO

    P.serve(URL, smpl_files())
    mod = P.project("densepose.evaluation.densepose_coco_evaluation")
    e = P.project("densepose.evaluation.evaluator")
    d = eval_dataset("pack_ce", "ce")
    rows = []
    for i in d["images"]:
        rows += e.prediction_to_dict(near_predictions(d, i["id"], "chart", noise=4.0), i["id"], None, {0: "x"}, False)
    for r in rows:
        r["category_id"] = 1
    with redirect_stdout(io.StringIO()):
        gt = COCO("pack_ce.json")
        dt = gt.loadRes([dict(r) for r in rows])
    for mode in ("GPS", "GPSM", "IOU"):
        ev = mod.DensePoseCocoEval(gt, dt, "densepose", dpEvalMode=getattr(mod.DensePoseEvalMode, mode))
        ev.evaluate()
        ev.accumulate()
        ev.summarize()
        out.put(mode + ".stats", ev.stats)
        for k in sorted(ev.ious):
            if len(ev.ious[k]):
                out.put(f"{mode}.ious.{k[0]}", ev.ious[k][0])
                out.put(f"{mode}.boxes.{k[0]}", ev.ious[k][1])
        if mode != "GPS":
            out.put(mode + ".masks", [v for v in ev.real_ious.values() if len(v)])
    ev = mod.DensePoseCocoEval(gt, dt, "densepose", dpDataMode=mod.DensePoseDataMode.IUV_GT)
    ev.evaluate()
    out.put("IUV_GT", [ev.ious[k][0] for k in sorted(ev.ious) if len(ev.ious[k])])
    out.put("params", {"iouThrs": ev.params.iouThrs, "maxDets": ev.params.maxDets, "areaRng": ev.params.areaRng, "labels": ev.params.areaRngLbl, "recThrs": len(ev.params.recThrs)})
    g = d["annotations"][0]
    a, t = ev.findAllClosestVertsGT(g)
    out.put("closest_gt", [a, t])
    out.put("closest_uv", ev.findAllClosestVertsUV(np.asarray(g["dp_U"])[::-1].copy(), np.asarray(g["dp_V"]), np.asarray(g["dp_I"])))
    out.put("distances", ev.getDistancesUV(np.asarray([5, 9, 200, 3, 7]), np.asarray([5, 100, 3, 4, 0])))
    for t in ("bbox", "segm"):
        ev = mod.DensePoseCocoEval(gt, dt, t)
        ev.evaluate()
        ev.accumulate()
        ev.summarize()
        out.put(t, ev.stats)


@case("proj_densepose_tensor_storage", rtol=0, atol=0)
def tensor_storage(out):
    import io

    ts = P.project("densepose.evaluation.tensor_storage")
    schema = {"b": ts.SizeData(dtype="float32", shape=(3, 4)), "a": ts.SizeData(dtype="uint8", shape=(5,))}
    data = [{"a": fill.tensor(("ts", i), 5).abs().mul(40).byte(), "b": fill.tensor(("tsb", i), 3, 4)} for i in range(4)]
    for k in ("ram", "file"):
        s = ts.SingleProcessRamTensorStorage(schema, io.BytesIO()) if k == "ram" else ts.SingleProcessFileTensorStorage(schema, "x.bin", "wb")
        out.put(k + ".ids", [s.put(d) for d in data])
        if k == "ram":
            out.put(k + ".get", s.get(2))
        m = ts.storage_gather(s)
        out.put(k + ".multi", [type(m).__name__, *sorted(str(r) for r in m.rank_to_storage)])
        out.put(k + ".gathered", m.get(0, 3))
        out.raises(k + ".beyond", m.get, 0, 9)
    s = ts.SingleProcessRamTensorStorage(schema, io.BytesIO())
    out.put("size", s.record_size_b)
    out.raises("shape", s.put, {"a": data[0]["a"], "b": data[0]["b"][:2]})
    out.raises("missing", s.put, {"a": data[0]["a"]})
    out.raises("mode", ts.SingleProcessFileTensorStorage, schema, "y.bin", "w")
    e = P.project("densepose.evaluation.evaluator")
    for t, n in (("iuv", "ram"), ("cse", "file"), ("iuv", "none")):
        cfg = P.project_cfg(BASE, "DENSEPOSE_EVALUATION.TYPE", t, "DENSEPOSE_EVALUATION.STORAGE", n)
        s = e.build_densepose_evaluator_storage(cfg, "out")
        out.put(f"built.{t}.{n}", "None" if s is None else {k: list(v.shape) for k, v in s.data_schema.items()})
        out.put(f"built.{t}.{n}.type", type(s).__name__)
    cfg.DENSEPOSE_EVALUATION.STORAGE = "x"
    out.raises("bad", e.build_densepose_evaluator_storage, cfg, "out")


# ------------------------------------------------------------------ pictures
@case("proj_densepose_visualizers", rtol=0.03, atol=0.03)
def visualizers(out):
    """Shapes, and which share of the picture changes; colours are not compared."""
    import torch
    from detectron2.structures import Boxes, Instances

    vb, bb, dr, oi, dp, ex, tx = (P.project("densepose.vis." + n) for n in ("base", "bounding_box", "densepose_results", "densepose_outputs_iuv", "densepose_data_points", "extractor", "densepose_results_textures"))
    img = fill.image("vis", 80, 100)
    inst = Instances((80, 100), pred_boxes=Boxes(torch.tensor([[8.0, 6.0, 60.0, 70.0], [40.0, 20.0, 92.0, 66.0]])), scores=torch.tensor([0.9, 0.6]))
    inst.pred_densepose = P.chart_output("vis", 2, 28, confidences=("sigma_2",))

    def changed(key, image, a=img):
        out.put(key + ".shape", image.shape)
        out.put(key + ".dtype", str(image.dtype))
        out.put(key, float((image != a).any(2).mean()))

    m = (fill.label_map("vism", 40, 30, 2, ignore=0, cell=9)).astype(np.uint8)
    for k, kw in {"matrix": {}, "matrix_new": dict(inplace=False, alpha=1.0, val_scale=2.0)}.items():
        changed(k, vb.MatrixVisualizer(**kw).visualize(img.copy(), m, fill.uniform("mat", 1200, 0, 120).reshape(40, 30).astype(np.float32), [10, 12, 50, 44]))
    changed("matrix_empty", vb.MatrixVisualizer().visualize(img.copy(), m, m.astype(np.float32), [10, 12, 0, 44]))
    changed("rectangle", vb.RectangleVisualizer(thickness=2).visualize(img.copy(), [10, 10, 40, 30], color=(1, 2, 250)))
    changed("points", vb.PointsVisualizer(r=3).visualize(img.copy(), [(20, 30), (50, 60)]))
    changed("text", vb.TextVisualizer(fill_color_transparency=0.3, frame_color_transparency=0.5).visualize(img.copy(), "0.73", (20, 30)))
    boxes = ex.extract_boxes_xywh_from_instances(inst)
    out.put("boxes", boxes)
    changed("boxes.image", bb.BoundingBoxVisualizer().visualize(img.copy(), boxes))
    changed("scored", bb.ScoredBoundingBoxVisualizer().visualize(img.copy(), (boxes, inst.scores)))
    for n in ("FineSegmentation", "U", "V"):
        v = getattr(dr, f"DensePoseResults{n}Visualizer")()
        e = ex.create_extractor(v)
        changed("results." + n, v.visualize(img.copy(), e(inst)))
    v = tx.DensePoseResultsVisualizerWithTexture(texture_atlas=fill.image("atlas", 60, 40))
    changed("texture", v.visualize(img.copy(), ex.DensePoseResultExtractor()(inst)))
    for n in "IUV":
        changed("outputs." + n, oi.DensePoseOutputsVisualizer(to_visualize=n).visualize(img.copy(), (inst.pred_densepose, boxes)))
    d = P.dp_data(P.densepose_ann("visd"))
    changed("segmentation", dp.DensePoseDataCoarseSegmentationVisualizer().visualize(img.copy(), ([boxes[0]], [d])))
    c = vb.CompoundVisualizer([bb.ScoredBoundingBoxVisualizer(), dr.DensePoseResultsUVisualizer()])
    e = ex.create_extractor(c)
    changed("compound", c.visualize(img.copy(), e(inst)))
    r = ex.DensePoseResultExtractor()(inst, select=torch.tensor([False, True]))
    out.put("extract.select", [len(r[0]), *r[0][0].labels.shape])
    r = ex.ScoreThresholdedExtractor(ex.ScoredBoundingBoxExtractor(), 0.7)(inst)
    out.put("extract.scores", [r[0], r[1]])
    r = ex.NmsFilteredExtractor(ex.ScoredBoundingBoxExtractor(), 0.3)(inst)
    out.put("extract.nms", len(r[0]))
    out.put("extract.none", [str(x) for x in ex.DensePoseResultExtractor()(Instances((3, 3)))])
    cse = Instances((80, 100), pred_boxes=inst.pred_boxes, pred_classes=torch.tensor([0, 0]))
    cse.pred_densepose = P.cse_output("vis", 2, 28)
    r = ex.DensePoseOutputsExtractor()(cse)
    out.put("extract.outputs", [len(r[0]), *r[1].shape, *r[2]])
    out.put("unknown", str(ex.create_extractor(3)))
    assert common


@case("proj_densepose_vertex_visualizer", rtol=0.03, atol=0.03)
def vertex_visualizer(out):
    import torch
    from detectron2.config import CfgNode

    P.make_mesh("pack_v", 30)
    cfg = P.project_cfg("DensePose/configs/cse/densepose_rcnn_R_50_FPN_s1x.yaml", HEAD + "CSE.EMBED_SIZE", 8)
    cfg.MODEL.ROI_DENSEPOSE_HEAD.CSE.EMBEDDERS = CfgNode(new_allowed=True)
    cfg.DATASETS.CLASS_TO_MESH_NAME_MAPPING = CfgNode({"0": "pack_v"}, new_allowed=True)
    o = P.embedder_keys("pack_v", 30)
    for k, v in zip(o[::2], o[1::2]):
        P.set_key(cfg, k, v)
    ov = P.project("densepose.vis.densepose_outputs_vertex")
    img = fill.image("visv", 80, 100)
    data = (P.cse_output("visv", 2, 28), torch.tensor([[8.0, 6.0, 50.0, 60.0], [40.0, 20.0, 50.0, 46.0]]), [0, 0])
    v = ov.DensePoseOutputsVertexVisualizer(cfg, device="cpu")
    e = fill.fill_(v.embedder, {"": 3.0})
    v.mesh_vertex_embeddings = {"pack_v": e("pack_v").detach()}
    im = v.visualize(img.copy(), data)
    out.put("vertex", [*im.shape, float((im != img).any(2).mean())])
    out.put("embedding", ov.get_xyz_vertex_embedding("pack_v", torch.device("cpu")))
    t = ov.DensePoseOutputsTextureVisualizer(cfg, {"pack_v": fill.image("tex", 40, 40) // 2 + 20}, device="cpu")
    t.mesh_vertex_embeddings = v.mesh_vertex_embeddings
    im = t.visualize(img.copy(), data)
    out.put("texture", [*im.shape, float((im != img).any(2).mean())])
    out.put("atlases", ov.get_texture_atlases(None))
