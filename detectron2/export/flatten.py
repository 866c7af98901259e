"""Models with structured inputs and outputs as modules from tensors to tensors."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from detectron2.structures import Boxes, Instances, ROIMasks
from detectron2.utils.registry import locate

from ._schema import (
    DictSchema,
    IdentitySchema,
    ImageListSchema,
    InstancesSchema,
    ListSchema,
    Schema,
    TensorWrapSchema,
    TupleSchema,
    flatten_to_tuple,
)
from .torchscript_patch import patch_builtin_len

__all__ = [
    "Boxes",
    "DictSchema",
    "IdentitySchema",
    "ImageListSchema",
    "Instances",
    "InstancesSchema",
    "ListSchema",
    "ROIMasks",
    "Schema",
    "TensorWrapSchema",
    "TracingAdapter",
    "TupleSchema",
    "flatten_to_tuple",
    "locate",
    "patch_builtin_len",
]


class TracingAdapter(nn.Module):
    """A model with structured inputs and outputs as a module whose inputs and outputs are plain tensors.

    Exporters want tensors in and tensors out. This module takes the tensors of which the inputs are made, builds the
    inputs, calls the model without gradients, and returns the tensors of which the outputs are made.

    Use it with strict ``torch.export``, or with ``torch.jit.trace`` (deprecated by PyTorch) for programs that load
    TorchScript: a trace takes as many images as the example, of any size. :func:`detectron2.export.export_program`
    exports whole models by itself.

    Args:
        model: to be adapted; the model within, if it is wrapped for data-parallel training.
        inputs: an example of the model's input; a tuple stands for several arguments.
        inference_func: called as ``inference_func(model, *inputs)``; default: ``model(*inputs)``.
        allow_non_tensor: whether inputs and outputs may hold values other than tensors. Those of the inputs are then
            fixed, those of the outputs dropped. The schema of a side with such values is None, since tensors alone no
            longer make up its value; without an ``inputs_schema`` the module takes its own ``flattened_inputs`` only.

    Attributes:
        flattened_inputs: the tensors of ``inputs``: example arguments for an exporter.
        inputs_schema: builds ``inputs`` from ``flattened_inputs``; may be None, see ``allow_non_tensor``.

    Raises:
        ValueError: ``inputs`` hold something other than tensors and ``allow_non_tensor`` is False.

    Example:
        >>> adapter = TracingAdapter(model, [{"image": image}])  # doctest: +SKIP
        >>> program = torch.export.export(adapter, adapter.flattened_inputs, strict=True)  # doctest: +SKIP
        >>> adapter.outputs_schema(program.module()(image))  # doctest: +SKIP
        [{'instances': Instances(...)}]
    """

    flattened_inputs: tuple[Tensor, ...] = ()
    inputs_schema: Schema | None = None

    def __init__(
        self,
        model: nn.Module,
        inputs: object,
        inference_func: Callable[..., Any] | None = None,
        allow_non_tensor: bool = False,
    ) -> None:
        super().__init__()
        if isinstance(model, (nn.parallel.DistributedDataParallel, nn.DataParallel)):
            model = model.module
        self.model = model
        self.inputs: tuple[Any, ...] = inputs if isinstance(inputs, tuple) else (inputs,)
        self.inference_func = inference_func or _call
        self.allow_non_tensor = allow_non_tensor
        self.flattened_inputs, self.inputs_schema = self._tensors_of(self.inputs, "inputs")
        self._called = False
        self._outputs_schema: Schema | None = None

    def forward(self, *args: Tensor) -> tuple[Tensor, ...]:
        """Run the model.

        Args:
            *args: tensors with the meaning of ``flattened_inputs``.

        Returns:
            The tensors of the outputs, in the order of ``outputs_schema``.

        Raises:
            ValueError: other tensors than ``flattened_inputs`` without a schema for them; outputs that hold something
                other than tensors, when that is not allowed; outputs of another structure than those before.
        """
        lengths = patch_builtin_len() if _python_is_run_for_a_graph() else contextlib.nullcontext()
        with torch.no_grad(), lengths:
            outputs = self.inference_func(self.model, *self._inputs_from(args))
            tensors, schema = self._tensors_of(outputs, "outputs")
        if not torch.compiler.is_compiling():  # what is set while a graph is made does not outlive that
            self._remember(schema)
        return tensors

    @property
    def outputs_schema(self) -> Schema | None:
        """Builds the structured outputs from what the module returns; may be None, see ``allow_non_tensor``.

        It is known from the first call. If there was none yet, or only within ``torch.export``, the example inputs are
        run once to learn it.
        """
        if not self._called:
            self(*self.flattened_inputs)
        return self._outputs_schema

    def _remember(self, schema: Schema | None) -> None:
        if self._called and schema != self._outputs_schema:
            raise ValueError(
                "the outputs are not structured as in the first call, so one graph cannot stand for both: "
                f"first {self._outputs_schema}, now {schema}"
            )
        self._called, self._outputs_schema = True, schema

    def _inputs_from(self, args: tuple[Tensor, ...]) -> tuple[Any, ...]:
        if self.inputs_schema is not None:
            return self.inputs_schema(args)
        own = self.flattened_inputs
        # While a graph is made the arguments are stand-ins for the example and never the same objects.
        making_a_graph = torch.compiler.is_compiling() or torch.jit.is_tracing()
        if len(args) != len(own) or not (making_a_graph or all(a is b for a, b in zip(args, own))):
            raise ValueError(
                "the example inputs hold values other than tensors, so inputs cannot be built from other tensors; "
                "call with `*adapter.flattened_inputs`, or give an example of tensors only"
            )
        return self.inputs

    def _tensors_of(self, value: object, side: str) -> tuple[tuple[Tensor, ...], Schema | None]:
        """Return the tensors in a value, and its schema if there is nothing else in it."""
        leaves, schema = flatten_to_tuple(value)
        tensors = tuple(leaf for leaf in leaves if isinstance(leaf, Tensor))
        if len(tensors) == len(leaves):
            return tensors, schema
        if self.allow_non_tensor:
            return tensors, None
        kinds = sorted({type(leaf).__name__ for leaf in leaves if not isinstance(leaf, Tensor)})
        raise ValueError(
            f"the {side} of a graph are tensors, but among those of {type(self.model).__name__} are values of type "
            f"{', '.join(kinds)}; leave them out, or pass allow_non_tensor=True to "
            + ("fix them as they are" if side == "inputs" else "drop them")
        )


def _python_is_run_for_a_graph() -> bool:
    """Return whether a graph is made by running this code on stand-ins, as opposed to strict export, which reads it."""
    return torch.jit.is_tracing() or (
        torch.compiler.is_compiling() and not torch.compiler.is_dynamo_compiling()
    )


def _call(model: nn.Module, *inputs: object) -> object:
    return model(*inputs)
