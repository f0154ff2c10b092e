"""Convolutions of few channels into many, with a fast way back.

The adjoint of a convolution of one grey image by 32 filters sums over 32 channels and writes one. The library behind
torch's convolutions computes many output channels side by side, and so runs at a fraction of its speed there: by half a
time to five times slower than the loop here, which computes neighbouring pixels side by side. The same map is the
gradient of the convolution by its input. Both are taken where :func:`available` says so; everywhere else, and for all
other gradients, these are torch's own functions.

In double precision torch spreads the windows of all input channels out in memory, or for a transposed convolution
those of the output's. The loop is several times as fast there, also into a dozen channels. And a convolution into half
as many channels, or fewer, is written as a transposed one, with the kernel turned by a half, and the other way round:
of 10 channels into one it is several times as fast.

Both directions can be differentiated in forward mode, and batched, by ``torch.func``. The members of a batch are
further images, or where they differ in their kernels further channels.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, TypeAlias

import torch
from torch import Tensor
from torch.nn import Parameter
from torch.nn.functional import conv2d, conv_transpose2d

from contractive_gnn.compiled import kernels

Pair: TypeAlias = tuple[int, int]

CHANNELS: Final[Mapping[torch.dtype, int]] = {torch.float32: 3, torch.float64: 16}
"""The loop serves up to so many channels of the input: with more, torch is as fast."""
WIDTHS: Final = (3, 5, 7, 9)
"""The widths of the kernels that the loop is written out for."""
LEAST: Final[Mapping[torch.dtype, int]] = {torch.float32: 1 << 20, torch.float64: 1 << 17}
"""So many products are worth the call."""


def available(image: Tensor, weight: Tensor, spread: int, padding: Pair) -> bool:
    """Whether the compiled loop serves a convolution of stride 1.

    Args:
        image: a tensor that takes part.
        weight: ``[out, in, kh, kw]``.
        spread: number of entries of the output of the convolution.
        padding: zeros at either side.
    """
    return (
        not torch.compiler.is_compiling()
        and image.dtype == weight.dtype in CHANNELS
        and weight.size(1) <= CHANNELS[image.dtype]
        and weight.size(3) in WIDTHS
        and all(type(tensor) in (Tensor, Parameter) for tensor in (image, weight))
        and padding[0] < weight.size(2)
        and padding[1] < weight.size(3)
        and image.device.type == weight.device.type == "cpu"
        and spread * weight[0].numel() >= LEAST[image.dtype]
        and kernels.enabled()
        and not torch.is_autocast_enabled("cpu")
        and not any(map(torch._C._functorch.is_legacy_batchedtensor, (image, weight)))
        and not _twice_forward()
    )


def _twice_forward() -> bool:
    """Whether forward mode is differentiated in forward mode: there torch takes what a Function gives for constant."""
    transformations = torch._C._functorch.get_interpreter_stack() or ()
    return sum(one.key() == torch._C._functorch.TransformType.Jvp for one in transformations) > 1


def convolve(x: Tensor, weight: Tensor, padding: Pair) -> Tensor:
    """``conv2d(x, weight, padding=padding)`` with stride 1: ``[n, in, H, W]`` to ``[n, out, H', W']``.

    Differentiable any number of times.
    """
    if x.requires_grad and torch.is_grad_enabled():  # only the gradient by x has a faster way
        spread = x.size(0) * weight.size(0) * x.size(2) * x.size(3)
        if available(x, weight, spread, padding):
            found: Tensor = _Convolution.apply(x, weight, padding)
            return found
    if (turned := _turned(weight, padding)) is not None:
        return conv_transpose2d(x, *turned)
    return conv2d(x, weight, padding=padding)


def transpose(y: Tensor, weight: Tensor, padding: Pair) -> Tensor:
    """``conv_transpose2d(y, weight, padding=padding)`` with stride 1, the adjoint of :func:`convolve`.

    Differentiable any number of times.
    """
    if available(y, weight, y.numel(), padding):
        found: Tensor = _Transpose.apply(y, weight, padding)
        return found
    if (turned := _turned(weight, padding)) is not None:
        return conv2d(y, *turned)
    return conv_transpose2d(y, weight, padding=padding)


def _turned(weight: Tensor, padding: Pair) -> tuple[Tensor, None, int, Pair] | None:
    """Kernel, bias, stride and padding with which the other one of the two functions is the same map.

    None where it is not faster, and where the padding is wider than the kernel.
    """
    rest = weight.size(2) - 1 - padding[0], weight.size(3) - 1 - padding[1]
    few = 2 * weight.size(0) <= weight.size(1)
    if not few or weight.dtype != torch.float64 or weight.device.type != "cpu" or min(rest) < 0:
        return None
    return weight.flip(2, 3).transpose(0, 1), None, 1, rest


def _by_weight(x: Tensor, g: Tensor, weight: Tensor, padding: Pair) -> Tensor:
    """The gradient of ``⟨convolve(x, weight), g⟩`` by the weight."""
    arguments = g, x, weight, None, (1, 1), padding, (1, 1), False, (0, 0), 1, (False, True, False)
    found: Tensor = torch.ops.aten.convolution_backward(*arguments)[1]
    return found


def _many(
    function: Callable[[Tensor, Tensor, Pair], Tensor],
    batched: tuple[int | None, ...],
    x: Tensor,
    weight: Tensor,
    padding: Pair,
    channel: int,
) -> tuple[Tensor, int]:
    """All members of a batch at once: as more images, or as more channels of the result, kernel's axis ``channel``."""
    of_x, of_weight, _ = batched
    if of_weight is None:
        assert of_x is not None
        many = x.movedim(of_x, 0)
        return torch.unflatten(function(many.flatten(0, 1), weight, padding), 0, many.shape[:2]), 0
    members = weight.movedim(of_weight, 0)
    if of_x is None:
        joined = members.movedim(0, channel).flatten(channel, channel + 1)
        sizes = members.size(0), members.size(channel + 1)
        return torch.unflatten(function(x, joined, padding), 1, sizes), 1
    each = zip(x.movedim(of_x, 0), members, strict=True)
    return torch.stack([function(one, kernel, padding) for one, kernel in each]), 0


def _tangent(
    function: Callable[[Tensor, Tensor, Pair], Tensor], ctx: Any, by_x: Tensor | None, by_weight: Tensor | None
) -> Tensor:
    """Of a function that is linear in either argument."""
    x, weight = ctx.saved_tensors
    parts = []
    if by_x is not None:
        parts.append(function(by_x, weight, ctx.padding))
    if by_weight is not None:
        parts.append(function(x, by_weight, ctx.padding))
    return sum(parts[1:], parts[0])


def _save(ctx: Any, inputs: tuple[Tensor, Tensor, Pair]) -> None:
    x, weight, ctx.padding = inputs
    ctx.save_for_backward(x, weight)
    ctx.save_for_forward(x, weight)


class _Convolution(torch.autograd.Function):
    @staticmethod
    def forward(x: Tensor, weight: Tensor, padding: Pair) -> Tensor:
        return conv2d(x, weight, padding=padding)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, Pair], output: Tensor) -> None:
        _save(ctx, inputs)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        x, weight = ctx.saved_tensors
        by_x = transpose(grads[0], weight, ctx.padding) if ctx.needs_input_grad[0] else None
        by_weight = _by_weight(x, grads[0], weight, ctx.padding) if ctx.needs_input_grad[1] else None
        return by_x, by_weight, None

    @staticmethod
    def jvp(ctx: Any, by_x: Tensor | None, by_weight: Tensor | None, _: None) -> Tensor:
        return _tangent(convolve, ctx, by_x, by_weight)

    @staticmethod
    def vmap(info: Any, batched: Any, x: Tensor, weight: Tensor, padding: Pair) -> tuple[Tensor, int]:
        return _many(convolve, batched, x, weight, padding, 0)


class _Transpose(torch.autograd.Function):
    @staticmethod
    def forward(y: Tensor, weight: Tensor, padding: Pair) -> Tensor:
        from contractive_gnn.compiled import convolution_loops  # numba is imported where it is needed

        image, kernel = (tensor.detach().contiguous().numpy() for tensor in (y, weight))
        return torch.from_numpy(convolution_loops.transpose(image, kernel, padding))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, Pair], output: Tensor) -> None:
        _save(ctx, inputs)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        y, weight = ctx.saved_tensors
        by_y = convolve(grads[0], weight, ctx.padding) if ctx.needs_input_grad[0] else None
        by_weight = _by_weight(grads[0], y, weight, ctx.padding) if ctx.needs_input_grad[1] else None
        return by_y, by_weight, None

    @staticmethod
    def jvp(ctx: Any, by_y: Tensor | None, by_weight: Tensor | None, _: None) -> Tensor:
        return _tangent(transpose, ctx, by_y, by_weight)

    @staticmethod
    def vmap(info: Any, batched: Any, y: Tensor, weight: Tensor, padding: Pair) -> tuple[Tensor, int]:
        return _many(transpose, batched, y, weight, padding, 1)
