"""Check every published checkpoint against what was recorded of Detectron2, and write ``docs/parity.md``.

    python tools/parity_ledger.py                # configs and state dicts anew; golden cases as they were found last
    python tools/parity_ledger.py --goldens      # rerun the golden cases too
    python tools/parity_ledger.py --run NAME     # evaluate one checkpoint; needs its weights and its data set

What takes long, the outcomes of golden cases and of evaluations, is kept in ``tools/parity_ledger.json``.
"""

from __future__ import annotations

import argparse
import gzip
import json
import re
import subprocess
import sys
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import torch

from detectron2 import model_zoo
from detectron2.config import CfgNode, instantiate
from detectron2.data import DatasetCatalog
from detectron2.engine import DefaultTrainer
from detectron2.engine.run_config import run_config
from detectron2.model_zoo.checkpoints import CHECKPOINTS
from detectron2.model_zoo.paths import config_names
from detectron2.model_zoo.project_checkpoints import PROJECT_FIGURES, PROJECT_WEIGHTS
from detectron2.model_zoo.published import PUBLISHED
from detectron2.modeling import build_model
from detectron2.projects.densepose.engine import Trainer as DensePoseTrainer

sys.path.insert(0, str(Path(__file__).parent))
from parity_coverage import COVERAGE

ROOT = Path(__file__).resolve().parents[1]
PACK = ROOT / "tests" / "parity"
DOCUMENT, OUTCOMES = ROOT / "docs" / "parity.md", ROOT / "tools" / "parity_ledger.json"
NAMES = [*CHECKPOINTS, *PROJECT_WEIGHTS]
HEADLINES = ("AP", "PQ", "mIoU", "IoU", "AR@1000")
NOT_RUN = "not run here"
# Folder of a recorded config -> folder of the zoo.
MODERN = {
    "eva02": "EVA-02/configs",
    "mask2former": "Mask2Former/configs",
    "maskdino": "MaskDINO/configs",
    "dino": "DINO/configs/dino",
    "deformable_detr": "DINO/configs/deformable_detr",
}


def path_of(name: str) -> str:
    """Return the path of a checkpoint's config: its YAML file if there are two."""
    return next(p for p in (f"{name}.yaml", f"{name}.py") if p in config_names())


@cache
def recorded() -> dict[str, dict[str, list[int]]]:
    """Names and shapes of the state dict of each config."""
    files = sorted((PACK / "zoo").glob("*state_dicts.json.gz"))
    groups = [group for file in files for group in json.loads(gzip.decompress(file.read_bytes()))]
    return {_zoo_name(path): dict(group["state_dict"]) for group in groups for path in group["configs"]}


def _zoo_name(path: str) -> str:
    """Return the zoo's name of a recorded config; those of the modern models were recorded by their packages."""
    package, _, rest = path.partition("/")
    return f"{MODERN[package]}/{rest}" if package in MODERN else path


def structure(cfg: Any) -> dict[str, list[int]]:
    """Build the model of a config without its values and return names and shapes of its state dict."""
    with torch.device("meta"):
        if isinstance(cfg, CfgNode):
            cfg.MODEL.DEVICE = "meta"
            for mesh in cfg.MODEL.get("ROI_DENSEPOSE_HEAD", {}).get("CSE", {}).get("EMBEDDERS", {}).values():
                mesh.INIT_FILE = ""  # an address, and the values do not matter
            model = build_model(cfg)
        else:
            heads = cfg.model.get("roi_heads", {})
            for part in (*heads.get("box_predictors", ()), heads.get("box_predictor")):
                if part is not None:
                    part.pop("get_fed_loss_cls_weights", None)  # counts of LVIS's annotations
                    part.use_fed_loss = False
            model = instantiate(cfg.model)
    return {name: list(value.shape) for name, value in model.state_dict().items()}


def checked(name: str) -> tuple[str, str]:
    """Return whether a checkpoint's config resolves, and whether the state dict of its model is the recorded one."""
    path = path_of(name)
    try:
        cfg = model_zoo.get_config(path)
        found = structure(cfg)
    except Exception as error:  # whatever goes wrong is the content of the cell
        return f"fails: {type(error).__name__}", "not built"
    if path not in recorded():
        return "resolves", "not recorded"
    wanted = {k: v for k, v in recorded()[path].items() if not k.endswith("fed_loss_cls_weights")}
    unlike = {k for k in found.keys() | wanted.keys() if found.get(k) != wanted.get(k)}
    return "resolves", f"equal ({len(wanted)})" if not unlike else f"{len(unlike)} entries differ"


def coverage(name: str) -> tuple[list[str], bool]:
    """Return the golden cases of a checkpoint's architecture, and whether they cover the whole of it."""
    found = ((re.search(pattern, name), cases) for pattern, cases in COVERAGE)
    cases = next((match.expand(cases) for match, cases in found if match), "")
    names = [c for c in cases.split() if c != "+"]
    trained = [re.sub("^eval|_eval(_|$)", lambda m: m[0].replace("eval", "train"), c) for c in names]
    known = {p.stem for p in (PACK / "goldens").glob("*.npz")}
    return list(dict.fromkeys(names + [c for c in trained if c in known])), "+" not in cases


def golden(name: str, outcomes: Mapping[str, str]) -> str:
    """Return what the golden cases of a checkpoint's architecture say."""
    cases, whole = coverage(name)
    if not cases:
        return "not covered"
    if not set(cases) <= set(outcomes):
        return "not run"
    bad = [c for c in cases if outcomes[c] != "ok"]
    return (
        f"differ: {', '.join(bad)}" if bad else f"{'agree' if whole else 'parts agree'}: {', '.join(cases)}"
    )


def run_goldens() -> dict[str, str]:
    """Run the golden cases that the table names; return the first word of each line."""
    cases = sorted({case for name in NAMES for case in coverage(name)[0]})
    only = [word for case in cases for word in ("--only", case)]
    command = [sys.executable, str(PACK / "run.py"), "check", str(PACK / "goldens"), "--jobs", "1", *only]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    words = [line.split()[:2] for line in done.stdout.splitlines()]
    return {pair[1]: pair[0] for pair in words if len(pair) == 2 and pair[1] in cases}


def published(name: str) -> str:
    """Return the figures of the model's page."""
    figures = PUBLISHED.get(name) or PROJECT_FIGURES.get(name)
    if figures is None:
        return "not recorded"
    pairs = (("box", figures.box_ap), (figures.other_name, figures.other_ap))
    return ", ".join(f"{kind} {value:.1f}" for kind, value in pairs if value is not None) or "not recorded"


def row(name: str, outcomes: Mapping[str, Any]) -> str:
    """Return a checkpoint's line of the table."""
    measured = outcomes["measured"].get(name)
    here = ", ".join(f"{k} {v:.1f}" for k, v in measured.items()) if measured else NOT_RUN
    cells = (*checked(name), golden(name, outcomes["goldens"]), published(name), here)
    return f"| {name} | {' | '.join(cells)} | `python tools/parity_ledger.py --run {name}` |"


def evaluate(name: str) -> dict[str, float]:
    """Evaluate a checkpoint on the test data of its config; return the main figure of each task, in percent."""
    cfg = model_zoo.get_config(path_of(name), trained=True)
    for data in run_config(cfg).test_names:
        DatasetCatalog.get(data)  # before the weights are fetched for nothing
    model = model_zoo.get(path_of(name), trained=True).eval()
    trainer = DensePoseTrainer if name.startswith("DensePose/") else DefaultTrainer
    results = trainer.test(cfg, model)
    return {
        f"{task} {metric}": float(figures[metric])
        for task, figures in results.items()
        for metric in HEADLINES
        if metric in figures
    }


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--goldens", action="store_true", help="rerun the golden cases")
    parser.add_argument("--run", choices=NAMES, metavar="NAME", help="evaluate this checkpoint")
    args = parser.parse_args()
    outcomes = json.loads(OUTCOMES.read_text()) if OUTCOMES.exists() else {"goldens": {}, "measured": {}}
    if args.run:
        try:
            outcomes["measured"][args.run] = found = evaluate(args.run)
        except OSError as error:  # no data set, no weights, no network
            print(f"{NOT_RUN}: {error}")
            return 1
        print(f"{args.run}: {found}; published: {published(args.run)}")
    if args.goldens:
        outcomes["goldens"] = run_goldens()
    OUTCOMES.write_text(json.dumps(outcomes, indent=1, sort_keys=True) + "\n")
    head = DOCUMENT.read_text(encoding="utf-8").split("| checkpoint |")[0]
    titles = ("checkpoint", "config", "state dict", "golden figures", "published", "here", "evaluate")
    lines = [
        f"| {' | '.join(titles)} |",
        "|---" * len(titles) + "|",
        *(row(name, outcomes) for name in NAMES),
    ]
    DOCUMENT.write_text(head + "\n".join(lines) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
