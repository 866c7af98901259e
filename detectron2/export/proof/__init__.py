"""Proof that an exported file gives what its model gives: pictures to try, comparison, and the table of it."""

from .agreement import Agreement, prove
from .compare import BY_AP, TOLERANCES, Difference, Tolerance, compare
from .scenes import Scene, make_scenes

__all__ = [
    "BY_AP",
    "TOLERANCES",
    "Agreement",
    "Difference",
    "Scene",
    "Tolerance",
    "compare",
    "make_scenes",
    "prove",
]
