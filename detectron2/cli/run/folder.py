"""The folder of a training run.

config.yaml        the resolved config
run.json           data, classes, model, seed, versions (class RunCard of engine/run_folder.py)
model_best.pth     weights with the best validation result
model_final.pth    weights of the last step
metrics.json       training metrics, one JSON object per line
summary.json       final results
report.html        a page that explains them
model_card.md      base weights, licences, classes, data and results
pictures/          images with predictions and labels side by side
inference/         predictions in COCO format
"""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from detectron2.engine.run_folder import DataCard
from detectron2.utils.file_io.text import read_json
from detectron2.utils.logger import close_log_file

__all__ = ["fresh_folder", "has_begun", "remove_run", "same_labels"]

# Files that a run writes besides its checkpoints.
_WRITTEN = (
    "run.json", "config.yaml", "metrics.json", "last_checkpoint", "summary.json", "evaluation.json", "report.json", "model_card.md",
    "classes.csv", "*.html", "log.txt*", "events.out.tfevents.*", "labels", "pictures", "inference", "eval", "bad_batches",
    "ray", "ray.json",
)  # fmt: skip


def has_begun(folder: Path) -> bool:
    """Return whether a training in ``folder`` has written metrics or a checkpoint."""
    metrics = folder / "metrics.json"
    kept = any((folder / name).exists() for name in ("last_checkpoint", "bad_batches"))
    return kept or any(folder.glob("model_*")) or (metrics.is_file() and metrics.stat().st_size > 0)


def remove_run(folder: Path) -> None:
    """Remove the files of a run from its folder; other files stay."""
    for pattern in (*_WRITTEN, "model_*.pth", "model_*.shards"):
        for path in folder.glob(pattern):
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()


@contextmanager
def fresh_folder(folder: Path) -> Iterator[None]:
    """Remove ``folder`` if the ``with`` block that creates it raises."""
    missing = [p for p in (folder, *folder.parents) if not p.exists()]
    try:
        yield
    except BaseException:
        close_log_file()
        if missing:
            shutil.rmtree(folder, ignore_errors=True)
        with suppress(OSError):
            for parent in missing[1:]:
                parent.rmdir()
        raise


def same_labels(a: DataCard, b: DataCard) -> bool:
    """Return whether two cards name the same labels: the same file, or two files with the same content."""
    if Path(a.json).resolve() == Path(b.json).resolve():
        return True
    if (a.num_images, a.num_instances) != (b.num_images, b.num_instances):
        return False
    parts = ("images", "annotations", "categories")
    return all(
        one == other for one, other in zip(*([read_json(c.json).get(k) for k in parts] for c in (a, b)))
    )
