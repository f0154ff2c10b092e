"""The compiled spline against plain tensor operations: values, gradients, second derivatives, traces, threads."""

import math

import pytest
import torch
from torch import Tensor, nn
from torch.autograd import forward_ad

from contractive_gnn.compiled import kernels, row_threads, splines
from contractive_gnn.splines import LinearSpline

pytest.importorskip("numba", reason="the compiled loop needs numba, which comes with the extra 'attacks'")

SHAPES = [(2, 3, 5), (4, 1, 7), (3, 4, 1), (1, 2, 300)]


def problem(
    shape: tuple[int, int, int], dtype: torch.dtype, *, shared: bool = False, scaled: bool = True
) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
    """U, a, p and τ; the table is arbitrary: nothing here needs it to be continuous."""
    generator = torch.Generator().manual_seed(1)
    n, c, _ = shape
    u = torch.randn(shape, dtype=dtype, generator=generator)
    rows = 1 if shared else c
    intercept, slope = (torch.rand(rows, 6, dtype=dtype, generator=generator) for _ in range(2))
    scale = 0.3 + torch.rand(n, c, 1, dtype=dtype, generator=generator) if scaled else None
    for tensor in (u, intercept, slope, scale):
        if tensor is not None:
            tensor.requires_grad_()
    return u, intercept, slope, scale


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("scaled", [False, True])
@pytest.mark.parametrize("shape", SHAPES)
def test_values_and_gradients_are_those_of_tensor_operations(
    shape: tuple[int, int, int], scaled: bool, shared: bool, dtype: torch.dtype
) -> None:
    given = problem(shape, dtype, shared=shared, scaled=scaled)
    assert splines.available(*given)
    present = [tensor for tensor in given if tensor is not None]
    compiled, plain = splines.linear_spline(*given, 0.4), splines.plain_linear_spline(*given, 0.4)
    torch.testing.assert_close(compiled, plain)
    g = torch.randn(plain.shape, dtype=dtype, generator=torch.Generator().manual_seed(2))
    for ours, theirs in zip(
        torch.autograd.grad(compiled, present, g), torch.autograd.grad(plain, present, g), strict=True
    ):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("scaled", [False, True])
def test_gradcheck(scaled: bool) -> None:
    """The slopes jump at a knot: no point is closer to one than the step of the differences."""
    u, intercept, slope, scale = problem((2, 3, 5), torch.float64, scaled=scaled)
    # a continuous table, since τ moves the pieces
    values = torch.cat([torch.zeros(3, 1), (0.4 * slope.detach()).cumsum(1)], dim=1)[:, :-1].double()
    intercept = (values - slope.detach() * 0.4 * (torch.arange(6) - 3)).requires_grad_()
    given = [tensor for tensor in (u, intercept, slope, scale) if tensor is not None]
    assert torch.autograd.gradcheck(
        lambda *tensors: splines.linear_spline(*tensors[:3], tensors[3] if scaled else None, 0.4), given
    )


def test_second_derivatives_are_those_of_tensor_operations() -> None:
    given = problem((2, 3, 5), torch.float64)
    found = []
    for way in (splines.linear_spline, splines.plain_linear_spline):
        first = torch.autograd.grad(way(*given, 0.4).square().sum(), given, create_graph=True)  # type: ignore[arg-type]
        found.append(torch.autograd.grad(sum(part.square().sum() for part in first), given))  # type: ignore[arg-type]
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_only_what_is_needed_has_a_gradient() -> None:
    u, intercept, slope, scale = problem((2, 3, 5), torch.float64)
    out = splines.linear_spline(u, intercept.detach(), slope.detach(), scale.detach(), 0.4)  # type: ignore[union-attr]
    torch.testing.assert_close(
        torch.autograd.grad(out.sum(), u)[0],
        torch.autograd.grad(splines.plain_linear_spline(u, intercept, slope, scale, 0.4).sum(), u)[0],
    )


def test_the_op_passes_torchs_own_checks() -> None:
    u, intercept, slope, scale = problem((2, 3, 5), torch.float64)
    for factor in (None, scale.squeeze(2).detach().requires_grad_()):  # type: ignore[union-attr]
        torch.library.opcheck(torch.ops.contractive_gnn.linear_spline.default, (u, intercept, slope, factor, 0.4))


@pytest.mark.parametrize("threads", [2, 3])
def test_threads_do_not_change_the_result(threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    given = problem((5, 3, 40), torch.float64)
    one = splines.linear_spline(*given, 0.4)
    grads = torch.autograd.grad(one.sum(), given)  # type: ignore[arg-type]
    from contractive_gnn.compiled import spline_loops  # imports numba

    monkeypatch.setattr(spline_loops, "SHARE", 64)
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    several: list[int] = []
    monkeypatch.setattr(
        spline_loops,
        "in_threads",
        lambda loop, arrays, cuts, *out: (several.append(len(cuts)), row_threads.in_threads(loop, arrays, cuts, *out)),
    )
    out = splines.linear_spline(*given, 0.4)
    torch.testing.assert_close(out, one)
    for ours, theirs in zip(torch.autograd.grad(out.sum(), given), grads, strict=True):  # type: ignore[arg-type]
        torch.testing.assert_close(ours, theirs)
    assert several == [threads + 1] * 2


def test_a_long_sum_is_as_exact_in_single_precision_as_in_double() -> None:
    """Two million equal entries in one piece: a sum in single precision would be off in the third digit."""
    u = torch.full((1, 1, 2_000_000), 0.1)
    intercept, slope = torch.zeros(1, 2), torch.ones(1, 2, requires_grad=True)
    (by_slope,) = torch.autograd.grad(splines.linear_spline(u, intercept, slope, None, 1.0).sum(), slope)
    assert by_slope[0, 1].item() == pytest.approx(2e5, rel=1e-6)


def test_other_views_and_memory_orders() -> None:
    spline = LinearSpline(3)
    u = torch.randn(2, 3, 8, 8)
    expected = spline(u)
    torch.testing.assert_close(spline(u.to(memory_format=torch.channels_last)), expected)
    torch.testing.assert_close(spline(u.mT).mT, expected)
    out = spline(u.requires_grad_())
    (by_u,) = torch.autograd.grad(out.sum(), u)  # an expanded gradient, without memory of its own
    with kernels.disabled():
        (plain,) = torch.autograd.grad(spline(u).sum(), u)
    torch.testing.assert_close(by_u, plain)


def test_missing_entries_stay_within_the_table() -> None:
    u = torch.tensor([[[math.nan, math.inf, -math.inf, 1e38, -1e38]]])
    out = splines.linear_spline(u, torch.zeros(1, 4), torch.ones(1, 4), None, 0.5)
    assert out[0, 0, 0].isnan()
    torch.testing.assert_close(out[0, 0, 1:], u[0, 0, 1:])


def test_traces_and_transformations_take_the_plain_way() -> None:
    spline = LinearSpline(3)
    u = torch.randn(2, 3, 4, 4)
    exported = torch.export.export(nn.Sequential(spline), (u,))
    torch.testing.assert_close(exported.module()(u), spline(u))
    compiled = torch.compile(spline, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(u, scale=torch.full((2, 1, 1, 1), 0.5)), spline(u, scale=0.5))
    torch.testing.assert_close(torch.vmap(spline)(u), spline(u))
    jacobian = torch.func.jacfwd(spline)(u[0])
    reverse = torch.func.jacrev(spline)(u[0])
    torch.testing.assert_close(jacobian, reverse)
    with forward_ad.dual_level():
        dual = spline(forward_ad.make_dual(u, torch.ones_like(u)))
        tangent = forward_ad.unpack_dual(dual).tangent
    assert tangent is not None
    assert 0 <= tangent.min() <= tangent.max() <= 1


def test_batched_gradients() -> None:
    spline = LinearSpline(3).double()
    u = torch.randn(1, 3, 2, 2, dtype=torch.float64, requires_grad=True)
    out = spline(u)
    (all_at_once,) = torch.autograd.grad(out, u, torch.eye(12, dtype=u.dtype).view(12, *u.shape), is_grads_batched=True)
    jacobian = torch.autograd.functional.jacobian(spline, u.detach())
    torch.testing.assert_close(all_at_once.view(12, 12), jacobian.view(12, 12))
