"""A table of the weights that were and were not loaded from a checkpoint."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from detectron2.utils.errors import UserError
from detectron2.utils.suggest import closest
from detectron2.utils.tables import format_table

__all__ = ["LoadReport", "format_groups", "require_weights"]

Shape = tuple[int, ...]
_HINTS = 60


def _group(names: Iterable[str]) -> list[tuple[str, list[str]]]:
    """Group parameter names by module, in order of appearance."""
    groups: dict[str, list[str]] = {}
    for name in names:
        module, _, leaf = name.rpartition(".")
        groups.setdefault(module, []).append(leaf)
    return list(groups.items())


def _part(name: str) -> str:
    """Shorten ``"roi_heads.box_head.fc1.weight"`` to ``"roi_heads.box_head"``."""
    return ".".join(name.split(".")[:-1][:2]) or name


def _label(module: str, leaves: Sequence[str]) -> str:
    tail = leaves[0] if len(leaves) == 1 else "{" + ", ".join(leaves) + "}"
    return f"{module}.{tail}" if module else tail


def format_groups(names: Iterable[str]) -> str:
    """List parameters, one module per line: ``roi_heads.box_head.fc1.{bias, weight}``."""
    return "\n".join(f"  {_label(module, leaves)}" for module, leaves in _group(names))


@dataclass
class LoadReport:
    """The weights that were and were not loaded.

    Attributes:
        path: the file.
        loaded: names of weights of the model that were loaded.
        adapted: convolutions adapted to another number of channels: name, shape in the checkpoint, shape in the model.
        mismatched: weights that were not loaded: name, shape in the checkpoint, shape in the model.
        missing: names in the model but not in the checkpoint.
        unexpected: names in the checkpoint but not in the model.
    """

    path: str = ""
    loaded: list[str] = field(default_factory=list)
    adapted: list[tuple[str, Shape, Shape]] = field(default_factory=list)
    mismatched: list[tuple[str, Shape, Shape]] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)

    @property
    def complete(self) -> bool:
        """Whether all names match."""
        return not (self.mismatched or self.missing or self.unexpected)

    @property
    def useless(self) -> bool:
        """Whether the model has weights, but none was loaded."""
        return bool(self.missing or self.mismatched) and not self.loaded

    def untouched(self) -> list[str]:
        """Return the parts of the model, such as ``roi_heads.mask_head``, of which no weight was loaded."""
        lacking = [*self.missing, *(name for name, _, _ in self.mismatched)]
        found = {_part(name) for name in self.loaded}
        return [p for p in dict.fromkeys(_part(name) for name in lacking) if p not in found]

    def rows(self) -> list[tuple[str, str, str]]:
        """Return rows (result, parameters of one module, reason), worst first."""
        rows = []
        for name, there, here in self.mismatched:
            rows.append(("shape differs", name, f"{there} in the file, {here} in the model: not loaded"))
        for fate, names, others, side in (
            ("missing", self.missing, self.unexpected, "the file has"),
            ("unused", self.unexpected, self.missing, "the model has"),
        ):
            for module, leaves in _group(names):
                label = _label(module, leaves)
                full = f"{module}.{leaves[0]}" if module else leaves[0]
                # Comparing spellings is slow, so only the first rows get hints.
                near = closest(full, others, limit=1) if len(rows) < _HINTS else []
                kept = (
                    "not in the file: keeps its value" if fate == "missing" else "not in the model: ignored"
                )
                rows.append((fate, label, f"{kept}; {side} {near[0]}" if near else kept))
        for name, there, here in self.adapted:
            rows.append(("adapted", name, f"input channels {there[1]} -> {here[1]}"))
        return rows

    def summary(self) -> str:
        """Return one sentence with counts."""
        text = f"{len(self.loaded)} weights loaded"
        for names, what in (
            (self.adapted, "adapted to the input channels"),
            (self.mismatched, "of another shape"),
            (self.missing, "missing in the file"),
            (self.unexpected, "of the file unused"),
        ):
            if names:
                text += f", {len(names)} {what}"
        return f"{self.path}: {text}" if self.path else text

    def table(self, limit: int = _HINTS) -> str:
        """Return the summary and one row per module.

        Args:
            limit: maximum number of rows; the rest is counted.
        """
        rows = self.rows()
        if not rows:
            return self.summary()
        text = self.summary() + "\n" + format_table(rows[:limit], ("what", "name", "why"))
        return text + (f"\n… and {len(rows) - limit} more" if len(rows) > limit else "")


def require_weights(report: LoadReport | None, model: str) -> None:
    """Check that no part of a model kept its random initial weights.

    Args:
        report: what was loaded; None if nothing was.
        model: the user's name for the model.

    Raises:
        UserError: if a part kept them.
    """
    if report is None:
        raise UserError(f"{model} names no weights: give them with --weights FILE")
    lacking = report.untouched()
    if lacking:
        raise UserError(
            f"{report.path} does not have the weights of {model}: nothing fits {', '.join(lacking[:6])}"
            f"{' …' if len(lacking) > 6 else ''} ({len(report.loaded)} others fit). Was it trained as another model, or "
            "with other classes?"
        )
