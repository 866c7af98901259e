"""Suggest similar names in error messages about unknown names."""

import difflib
from collections.abc import Iterable
from pathlib import Path

__all__ = ["closest", "did_you_mean", "misspelt", "not_there"]

_MISSPELT = 0.8


def closest(name: object, known: Iterable[object], limit: int = 3) -> list[str]:
    """Find the known names that are most similar to ``name``.

    Spelling is compared ignoring case. Names that differ only in case, or only in the dotted path before them, are first.

    Args:
        name: the unknown name; converted to text.
        known: existing names; converted to text.
        limit: maximum number of names to return.

    Returns:
        Known names, best first; empty if none is similar.
    """
    names = list(dict.fromkeys(str(k) for k in known))
    wanted = str(name).lower()  # a config may have any value instead of a name
    exact = [n for n in names if n.lower() == wanted]
    if "/" not in wanted:  # a path's last part after a dot is only its extension
        tail = wanted.rsplit(".", 1)[-1]
        exact += [n for n in names if n.lower().rsplit(".", 1)[-1] == tail]
    by_lower: dict[str, list[str]] = {}
    for n in names:
        by_lower.setdefault(n.lower(), []).append(n)
    similar = [
        n for low in difflib.get_close_matches(wanted, by_lower, n=limit, cutoff=0.6) for n in by_lower[low]
    ]
    # A fragment ("retina") should find the names that contain it.
    inside = [n for n in names if len(wanted) >= 3 and wanted in n.lower()]
    return list(dict.fromkeys([*exact, *similar, *inside]))[:limit]


def did_you_mean(name: object, known: Iterable[object], limit: int = 3) -> str:
    """Return the sentence that follows "X is unknown." in an error.

    Args:
        name: the unknown name; converted to text.
        known: existing names.
        limit: maximum number of suggestions.

    Returns:
        ``"Did you mean 'a' or 'b'?"``; if none is similar, the known names if there are few, else their number; empty if
        there are none.
    """
    names = sorted({str(k) for k in known})
    near = closest(name, names, limit)
    if near:
        *front, last = [repr(n) for n in near]
        return f"Did you mean {', '.join(front)} or {last}?" if front else f"Did you mean {last}?"
    if not names:
        return ""
    if len(names) <= 12:
        return f"Known: {', '.join(names)}."
    return f"None of the {len(names)} known names is similar."


def misspelt(name: str, known: Iterable[str]) -> str | None:
    """Return the known name of which ``name`` is probably a misspelling; None if it looks like a new name."""
    names = list(known)
    for candidate in names:
        if candidate.lower() == name.lower():
            return candidate
    if len(name) <= 2:  # too short to tell
        return None
    near = difflib.get_close_matches(name, names, n=1, cutoff=_MISSPELT)
    return near[0] if near else None


def not_there(path: str | Path) -> str:
    """Return the message that a path does not exist, with a similar path if there is one."""
    path = Path(path)
    parent = path.parent
    if not parent.is_dir():
        return f"{path} does not exist (nor does the folder {parent})"
    near = closest(path.name, (p.name for p in parent.iterdir()), limit=1)
    return f"{path} does not exist" + (f"; did you mean {parent / near[0]}?" if near else "")
