"""Research projects on top of the package, one package each.

They are imported by their full names, such as ``detectron2.projects.point_rend``. Code and pickles made for
Detectron2 also know them as packages of their own, such as ``densepose``; :func:`install_legacy_names` serves those.
"""

import importlib
import importlib.util
import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

__all__ = ["install_legacy_names"]

LEGACY_NAMES = (
    "deeplab",
    "densepose",
    "mask2former",
    "maskdino",
    "panoptic_deeplab",
    "point_rend",
    "point_sup",
    "tensormask",
    "tridentnet",
)


def install_legacy_names() -> None:
    """Let ``import densepose`` mean ``import detectron2.projects.densepose``, and so for the other projects.

    It is the same module object under two names, submodules included: classes are identical, registries see them
    once, and pickles that name ``densepose.…`` load. From then on these names mean the projects even where another
    package of that name could be imported. A second call does nothing.

    Raises:
        RuntimeError: if another package of such a name is already imported.
    """
    for name in LEGACY_NAMES:
        module = sys.modules.get(name)
        if module is not None and module.__name__ != f"{__name__}.{name}":
            raise RuntimeError(
                f"{name!r} is already imported, from {getattr(module, '__file__', 'an unknown place')}; call "
                "install_legacy_names() before that import, or take that package off the path"
            )
    if not any(isinstance(finder, _LegacyFinder) for finder in sys.meta_path):
        # Before the finders of files: those would find submodules by the folder of their parent and load them twice.
        sys.meta_path.insert(0, _LegacyFinder())


class _LegacyFinder(MetaPathFinder):
    """Finds projects, and modules in them, by their top-level names."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname.partition(".")[0] not in LEGACY_NAMES:
            return None
        real = importlib.util.find_spec(f"{__name__}.{fullname}")
        if real is None:
            return None
        return ModuleSpec(fullname, _SameModule(real), is_package=real.submodule_search_locations is not None)


class _SameModule(Loader):
    """Hands out the module that is imported by its full name."""

    def __init__(self, real: ModuleSpec) -> None:
        self.real = real

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return importlib.import_module(self.real.name)

    def exec_module(self, module: ModuleType) -> None:
        # It has run. The import system has just given it the spec of its second name; reload() needs the first.
        module.__spec__ = self.real
