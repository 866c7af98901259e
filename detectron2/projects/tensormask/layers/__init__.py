"""The operator that converts between the mask representations of TensorMask."""

from .swap_align2nat import SwapAlign2Nat, swap_align2nat

__all__ = ["SwapAlign2Nat", "swap_align2nat"]
