"""Every public name of Detectron2, and every name that real projects import, is there with the same signature."""

import importlib
import inspect
import json
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).resolve().parent
API: dict[str, dict[str, Any]] = json.loads((HERE / "parity" / "api.json").read_text(encoding="utf-8"))[
    "modules"
]
API.update(json.loads((HERE / "parity" / "api_projects.json").read_text(encoding="utf-8"))["modules"])
# The projects beyond Detectron2's own that are here already.
MODERN = tuple(f"detectron2.projects.{name}" for name in ("dino", "eva02", "mask2former", "maskdino"))
_modern = json.loads((HERE / "parity" / "api_modern.json").read_text(encoding="utf-8"))["modules"]
API.update({module: _modern[module] for module in MODERN})
USED: list[list[Any]] = json.loads((HERE / "parity" / "used_names.json").read_text(encoding="utf-8"))

# Modules of the original that exist only to compile or to serve dead back ends, and names that are Python's own.
LEFT_OUT = ("detectron2._C",)
NOT_NAMES = {
    "__builtins__",
    "__cached__",
    "__doc__",
    "__file__",
    "__loader__",
    "__name__",
    "__package__",
    "__path__",
    "__spec__",
}


def resolve(module: str, name: str) -> Any:
    """The object that `from module import name` gives."""
    owner = importlib.import_module(module)
    if hasattr(owner, name):
        return getattr(owner, name)
    return importlib.import_module(f"{module}.{name}")


@pytest.mark.parametrize("module", [m for m in API if m not in LEFT_OUT])
def test_public_names_exist(module: str) -> None:
    missing = []
    for name, fact in API[module].items():
        if name in NOT_NAMES:
            continue
        try:
            found = resolve(module, name)
        except (ImportError, AttributeError):
            missing.append(name)
            continue
        missing += [
            f"{name}.{m}"
            for m in fact.get("members", {})
            if not hasattr(found, m) and m not in getattr(found, "__dataclass_fields__", {})
        ]
    assert not missing, f"{module} lacks {missing}"


@pytest.mark.parametrize("module", [m for m in API if m not in LEFT_OUT])
def test_signatures_accept_what_detectron2_accepted(module: str) -> None:
    wrong = []
    for name, fact in API[module].items():
        if name in NOT_NAMES or fact.get("home", module) != module or "sig" not in fact:
            continue
        try:
            found = resolve(module, name)
        except (ImportError, AttributeError):
            continue  # reported by the test above
        wrong += _differences(name, found, fact["sig"])
        for member, about in fact.get("members", {}).items():
            if isinstance(about, dict) and about.get("sig") and hasattr(found, member):
                wrong += _differences(f"{name}.{member}", getattr(found, member), about["sig"])
    assert not wrong, f"{module}: " + "; ".join(wrong)


def _differences(name: str, found: Any, expected: Any) -> list[str]:
    """Parameters of `expected` that `found` lacks or has in another order; more parameters are welcome."""
    if not callable(found) or not isinstance(expected, list):
        return []
    try:
        have = inspect.signature(found).parameters
    except (TypeError, ValueError):
        return []
    kinds = {p.kind for p in have.values()}
    names = [p for p in have if p != "self"]
    out = []
    wanted = [p for p in expected if p[0] not in ("self", "cls")]
    for i, parameter in enumerate(wanted):
        label, kind = parameter[0], parameter[1]
        if kind in ("*", "**", "vararg", "varkw", "kwarg"):
            continue
        if label in have:
            moved = kind == "arg" and names.index(label) != i
            if moved and inspect.Parameter.VAR_POSITIONAL not in kinds:
                out.append(f"{name}: {label} is parameter {names.index(label)}, expected {i}")
        elif inspect.Parameter.VAR_KEYWORD not in kinds:
            out.append(f"{name} lacks {label}")
    return out


# Names that the reference itself does not have; a project asks for them behind a try, or is out of date.
ABSENT = {
    ("detectron2.fb.env", "get_launch_environment"),
    ("detectron2.fb.utils", "print_fbcode_info"),
    ("detectron2.structures.Instances", "merge"),
}


ENTRIES = [pytest.param(m, n, id=f"{m}:{n}") for m, n, _ in USED if (m, n) not in ABSENT]


@pytest.mark.parametrize(("module", "name"), ENTRIES)
def test_names_that_projects_import_resolve(module: str, name: str) -> None:
    parts = module.split(".")
    # An entry may name a class or a catalog as its "module".
    for cut in range(len(parts), 0, -1):
        try:
            owner: Any = importlib.import_module(".".join(parts[:cut]))
            break
        except ModuleNotFoundError:
            continue
    for part in parts[cut:]:
        owner = getattr(owner, part)
    if not name or name == "*":
        return
    assert hasattr(owner, name) or importlib.import_module(f"{'.'.join(parts[:cut])}.{name}")


REEXPORTS: list[list[str]] = json.loads((HERE / "parity" / "reexports.json").read_text(encoding="utf-8"))


def test_modules_pass_on_the_names_that_those_of_detectron2_pass_on() -> None:
    missing = []
    for module, name, _home in REEXPORTS:
        try:
            resolve(module, name)
        except (ImportError, AttributeError):
            missing.append(f"{module}.{name}")
    assert not missing


def test_passed_on_names_are_the_objects_of_their_home() -> None:
    from detectron2.engine import HookBase
    from detectron2.engine.hooks import HookBase as passed_on
    from detectron2.layers import cat
    from detectron2.modeling import poolers

    assert passed_on is HookBase and poolers.cat is cat
    with pytest.raises(AttributeError, match=r"poolers.*'dog'"):
        poolers.dog
    with pytest.raises(ImportError):
        from detectron2.engine.defaults import no_such_name  # noqa: F401
