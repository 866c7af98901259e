"""The operator between the two representations of TensorMask."""

from .swap_align2nat import SwapAlign2Nat, swap_align2nat

__all__ = ["SwapAlign2Nat", "swap_align2nat"]
