"""Random damage to files, for tests that give it to readers: structural and by bytes, repeatable by a seed."""

import copy
import math
import random
from pathlib import Path
from typing import Any

__all__ = ["ODD", "mutate_bytes", "mutate_tree", "named"]

ODD: tuple[Any, ...] = (
    None, True, 0, -1, 10**30, 1.5, math.nan, math.inf, "", "x", "é\n", "a" * 5000, [], {}, [[]], [None], {"a": {}},
    {3: 4}, [1, "2", 3.0], "!!python/object", "${oops}", "1e9999", "(1, 2", b"\xff".decode("latin1"),
)  # fmt: skip


def mutate_tree(tree: Any, rng: random.Random, odd: tuple[Any, ...] = ODD) -> Any:
    """Return a copy of nested dicts and lists with one to three places changed."""
    made = copy.deepcopy(tree)
    for _ in range(rng.randint(1, 3)):
        places = list(_places(made))
        if not places:
            return rng.choice(odd)
        node, key = rng.choice(places)
        action = rng.randrange(4)
        if action == 0:
            del node[key]
        elif action == 1 and isinstance(node, dict):
            node[rng.choice([f"{key}X", str(key).lower(), 7, None, ""])] = node.pop(key)
        elif action == 2:
            node[key] = [copy.deepcopy(node[key])] * 2
        else:
            node[key] = copy.deepcopy(rng.choice(odd))
    return made


def _places(node: Any) -> Any:
    if isinstance(node, dict):
        items = list(node.items())
    elif isinstance(node, list):
        items = list(enumerate(node))
    else:
        return
    for key, value in items:
        yield node, key
        yield from _places(value)


def mutate_bytes(data: bytes, rng: random.Random) -> bytes:
    """Return the bytes cut off, with some changed, or with a part left out, doubled or moved."""
    made = bytearray(data)
    at = rng.randrange(len(made) or 1)
    end = min(len(made), at + rng.randint(1, 64))
    action = rng.randrange(6)
    if action == 0:
        del made[at:]
    elif action == 1:
        for _ in range(rng.randint(1, 8)):
            made[rng.randrange(len(made))] = rng.randrange(256)
    elif action == 2:
        del made[at:end]
    elif action == 3:
        made[at:at] = made[at:end] * rng.randint(1, 20)
    elif action == 4:
        made[at:at] = rng.randbytes(rng.randint(1, 32))
    else:
        made = made[at:] + made[:at]
    return bytes(made)


def named(path: Path, error: Exception) -> None:
    """Check that an error names the file that it is about."""
    assert path.name in str(error), (
        f"{type(error).__name__} does not name {path}: {error}\n{path.read_bytes()[:2000]!r}"
    )
