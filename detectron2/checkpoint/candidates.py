"""Choose and order the files of a folder from which a training may resume."""

import os
import re
from collections.abc import Callable, Iterable

__all__ = ["is_plain_name", "resume_order"]

_NUMBERED = re.compile(r"_(\d{7,})\.(?:pth|shards)$")
_OWN = re.compile(r"(?:\d{7,}|final|best)\.(?:pth|shards)$")


def is_plain_name(name: str) -> bool:
    """Return whether ``name`` is a printable file name, neither a path nor a URL."""
    return bool(name) and name == os.path.basename(name) and name.isprintable() and name not in (".", "..")


def resume_order(names: Iterable[str], tagged: str, iteration_of: Callable[[str], int | None]) -> list[str]:
    """Order the checkpoints that a training has written, the one to resume from first.

    Dates are ignored, since copying and wrong clocks change them, as are files with names of another form.

    Args:
        names: files in the folder.
        tagged: the file that ``last_checkpoint`` names; empty if it names none. It is first. Checkpoints of a later
            iteration are left out, since an earlier training in the same folder must have written them.
        iteration_of: reads the iteration of a file whose name has none; None if it cannot be read.
    """
    form = _form_of(tagged)
    numbered = _NUMBERED.search(tagged)
    newest = int(numbered[1]) if numbered else None
    found = []
    for name in names:
        if name == tagged or not (_OWN.search(name) or (form is not None and form.fullmatch(name))):
            continue
        match = _NUMBERED.search(name)
        iteration = int(match[1]) if match else iteration_of(name)
        if newest is None or iteration is None or iteration <= newest:
            # Among checkpoints of one iteration, the final one was written last.
            found.append((-1 if iteration is None else iteration, match is None, name))
    return ([tagged] if tagged else []) + [name for _, _, name in sorted(found, reverse=True)]


def _form_of(tagged: str) -> re.Pattern[str] | None:
    """Return a pattern of names that differ from ``tagged`` only in numbers; None if it has no number."""
    if not re.search(r"\d", tagged):
        return None
    return re.compile(r"\d+".join(re.escape(part) for part in re.split(r"\d+", tagged)))
