"""The compiled transposed convolution against torch's: values, gradients, second derivatives, and where it serves."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from contractive_gnn.compiled import convolutions, kernels
from contractive_gnn.operators import Conv2d

pytest.importorskip("numba", reason="the compiled loop needs numba, which comes with the extra 'attacks'")

SHAPES = [
    # out, in, kernel, padding, images, height, width
    pytest.param(5, 1, (7, 7), (3, 3), 2, 9, 11, id="same"),
    pytest.param(4, 2, (5, 3), (0, 2), 3, 8, 7, id="none-and-full"),
    pytest.param(3, 3, (3, 3), (1, 1), 1, 6, 5, id="colour"),
    pytest.param(2, 1, (4, 9), (3, 8), 2, 5, 6, id="full"),
    pytest.param(2, 1, (1, 5), (0, 0), 2, 1, 5, id="one-output-a-row"),
]


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    """However little there is to do."""
    monkeypatch.setattr(convolutions, "LEAST", dict.fromkeys(convolutions.LEAST, 0))


def problem(
    filters: int, channels: int, kernel: tuple[int, int], images: int, height: int, width: int, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(images, channels, height, width, dtype=dtype, generator=generator, requires_grad=True)
    weight = torch.randn(filters, channels, *kernel, dtype=dtype, generator=generator, requires_grad=True)
    return x, weight


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("filters", "channels", "kernel", "padding", "images", "height", "width"), SHAPES)
def test_values_and_gradients_are_those_of_torch(
    filters: int,
    channels: int,
    kernel: tuple[int, int],
    padding: tuple[int, int],
    images: int,
    height: int,
    width: int,
    dtype: torch.dtype,
) -> None:
    x, weight = problem(filters, channels, kernel, images, height, width, dtype)
    ours, theirs = convolutions.convolve(x, weight, padding), functional.conv2d(x, weight, padding=padding)
    assert type(ours.grad_fn).__name__ == "_ConvolutionBackward"
    torch.testing.assert_close(ours, theirs)
    y = torch.randn_like(theirs).requires_grad_()
    for mine, other in zip(
        torch.autograd.grad(ours, (x, weight), y.detach()),
        torch.autograd.grad(theirs, (x, weight), y.detach()),
        strict=True,
    ):
        torch.testing.assert_close(mine, other)
    back = convolutions.transpose(y, weight, padding)
    assert type(back.grad_fn).__name__ == "_TransposeBackward"
    other = functional.conv_transpose2d(y, weight, padding=padding)
    torch.testing.assert_close(back, other)
    g = torch.randn_like(other)
    for mine, theirs in zip(
        torch.autograd.grad(back, (y, weight), g), torch.autograd.grad(other, (y, weight), g), strict=True
    ):
        torch.testing.assert_close(mine, theirs)


def test_second_derivatives() -> None:
    x, weight = problem(3, 1, (3, 3), 1, 4, 5, torch.float64)
    y = torch.randn(1, 3, 4, 5, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradgradcheck(lambda a, b: convolutions.convolve(a, b, (1, 1)).sin(), (x, weight))
    assert torch.autograd.gradgradcheck(lambda a, b: convolutions.transpose(a, b, (1, 1)).sin(), (y, weight))


def test_it_is_the_adjoint_of_the_convolution() -> None:
    x, weight = problem(5, 1, (7, 7), 2, 12, 10, torch.float64)
    for mode in ("zeros", "circular"):
        operator = Conv2d(weight, padding=3, padding_mode=mode)  # type: ignore[arg-type]
        ax = operator(x)
        y = torch.randn_like(ax)
        torch.testing.assert_close((ax * y).sum(), (x * operator.adjoint(y)).sum())
        with kernels.disabled():
            torch.testing.assert_close(operator.adjoint(y), operator.adjoint(y))


@pytest.mark.parametrize("threads", [2, 3, 5])
def test_threads_do_not_change_the_result(threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    from contractive_gnn.compiled import convolution_loops  # imports numba

    _, weight = problem(4, 2, (5, 5), 1, 1, 1, torch.float64)
    y = torch.randn(3, 4, 7, 9, dtype=torch.float64)  # 21 lines: a thread's share begins within an image
    cuts: list[int] = []

    def in_threads(loop: object, arrays: object, ends: list[int], *results: object) -> None:
        cuts.append(len(ends))
        run(loop, arrays, ends, *results)

    run = convolution_loops.in_threads
    monkeypatch.setattr(convolution_loops, "in_threads", in_threads)
    monkeypatch.setattr(convolution_loops, "SHARE", 1)
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    ours = convolutions.transpose(y, weight, (2, 2))
    torch.testing.assert_close(ours, functional.conv_transpose2d(y, weight, padding=2))
    assert cuts == [threads + 1]


def test_torch_does_what_the_loop_does_not_serve() -> None:
    y, weight = torch.randn(2, 3, 8, 8), torch.randn(3, 1, 3, 3)
    spread = y.numel()
    assert convolutions.available(y, weight, spread, (1, 1))
    for other in (
        (y, torch.randn(3, 4, 3, 3), spread, (1, 1)),  # many channels
        (y, torch.randn(3, 1, 4, 4), spread, (1, 1)),  # no such width
        (y, weight, spread, (3, 1)),  # more zeros than the kernel reaches
        (y.bfloat16(), weight.bfloat16(), spread, (1, 1)),
        (y.double(), weight, spread, (1, 1)),
        (y.to("meta"), weight.to("meta"), spread, (1, 1)),
    ):
        assert not convolutions.available(*other)
    with kernels.disabled():
        assert not convolutions.available(y, weight, spread, (1, 1))
    with torch.autocast("cpu", torch.bfloat16):
        assert convolutions.transpose(y, weight, (1, 1)).dtype == torch.bfloat16


def test_traces_and_batches_of_gradients_take_torchs_way() -> None:
    operator = Conv2d(torch.randn(4, 1, 3, 3), padding=1)
    y = torch.randn(2, 4, 8, 8)
    expected = operator.adjoint(y)

    class Adjoint(torch.nn.Module):
        def forward(self, y: Tensor) -> Tensor:
            return operator.adjoint(y)

    torch.testing.assert_close(torch.export.export(Adjoint(), (y,)).module()(y), expected)
    x = torch.randn(1, 1, 4, 4, requires_grad=True)
    out = operator(x)
    batched = torch.autograd.grad(out, x, torch.eye(out.numel()).view(-1, *out.shape), is_grads_batched=True)[0]
    torch.testing.assert_close(
        batched.view(out.numel(), -1), torch.autograd.functional.jacobian(operator, x.detach()).view(out.numel(), -1)
    )


def curved(function: Callable[..., Tensor]) -> Callable[[Tensor, Tensor], Tensor]:
    """Something with second derivatives by both arguments."""
    return lambda x, weight: function(x, weight, padding=(1, 1)).sin()


TRANSFORMATIONS: dict[str, Callable[[Callable[[Tensor, Tensor], Tensor], Tensor, Tensor], Any]] = {
    "jvp": lambda f, x, w: torch.func.jvp(f, (x, w), (x.cos(), w.cos())),
    "jvp of one": lambda f, x, w: torch.func.jvp(lambda v: f(x, v), (w,), (w.cos(),)),
    "jvp of jvp": lambda f, x, w: torch.func.jvp(
        lambda v: torch.func.jvp(lambda u: f(u, v), (x,), (x.cos(),))[1], (w,), (w.cos(),)
    ),
    "grad": lambda f, x, w: torch.func.grad(lambda *a: f(*a).sum(), argnums=(0, 1))(x, w),
    "jacfwd of jacfwd": lambda f, x, w: torch.func.jacfwd(torch.func.jacfwd(lambda v: f(x, v).sum()))(w),
    "jacfwd of jacrev": lambda f, x, w: torch.func.jacfwd(torch.func.jacrev(lambda v: f(x, v).sum()))(w),
    "jacrev of jacfwd": lambda f, x, w: torch.func.jacrev(torch.func.jacfwd(lambda v: f(x, v).sum()))(w),
    "jacrev of jacrev": lambda f, x, w: torch.func.jacrev(torch.func.jacrev(lambda v: f(x, v).sum()))(w),
    "grad of jvp": lambda f, x, w: torch.func.grad(lambda v: torch.func.jvp(f, (v, w), (x, w))[1].sum())(x),
    "images": lambda f, x, w: torch.vmap(lambda v: f(v, w), in_dims=1)(torch.stack([x, x.cos(), x.sin()], dim=1)),
    "kernels": lambda f, x, w: torch.vmap(lambda v: f(x, v), in_dims=3)(torch.stack([w, w.cos(), w.sin()], dim=3)),
    "both": lambda f, x, w: torch.vmap(f, in_dims=(0, -1))(torch.stack([x, x.cos()]), torch.stack([w, w.sin()], -1)),
    "jacfwd": lambda f, x, w: torch.func.jacfwd(lambda v: f(x, v))(w),
    "jacrev": lambda f, x, w: torch.func.jacrev(lambda v: f(v, w))(x),
}


@pytest.mark.parametrize("way", TRANSFORMATIONS)
@pytest.mark.parametrize("pair", ["convolve", "transpose"])
def test_transformations_of_torch_func(way: str, pair: str, monkeypatch: pytest.MonkeyPatch) -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, 1 if pair == "convolve" else 3, 4, 5, dtype=torch.float64, generator=generator)
    weight = torch.randn(3, 1, 3, 3, dtype=torch.float64, generator=generator)
    calls = []
    transposed = convolutions._Transpose.apply
    monkeypatch.setattr(convolutions._Transpose, "apply", lambda *given: calls.append(1) or transposed(*given))
    mine = TRANSFORMATIONS[way](curved(getattr(convolutions, pair)), x, weight)
    torch_s = {"convolve": functional.conv2d, "transpose": functional.conv_transpose2d}[pair]
    torch.testing.assert_close(mine, TRANSFORMATIONS[way](curved(torch_s), x, weight))
    if pair == "transpose":
        assert bool(calls) != (way in ("jvp of jvp", "jacfwd of jacfwd"))


@pytest.mark.parametrize("pair", ["convolve", "transpose"])
def test_forward_mode(pair: str) -> None:
    x = torch.randn(2, 1 if pair == "convolve" else 3, 4, 5, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(3, 1, 3, 3, dtype=torch.float64, requires_grad=True)
    function = curved(getattr(convolutions, pair))
    assert torch.autograd.gradcheck(function, (x, weight), check_forward_ad=True)
