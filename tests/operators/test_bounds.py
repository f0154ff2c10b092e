"""Operators: adjoint, certified bounds against the dense matrix, tight where that is stated."""

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from contractive_gnn.dynamics import GraphGradientFlow
from contractive_gnn.graph import Graph
from contractive_gnn.norms import estimate_norm, operator_norm
from contractive_gnn.operators import Composition, Conv2d, Dense, GraphGradient, Operator

NORMS = ("l1", "l2", "linf")
EPS = 1e-12


def draw(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)).to(dtype)


def materialise(f: Callable[[Tensor], Tensor], like: Tensor) -> Tensor:
    """The matrix ``[out, in]`` of a linear map on tensors shaped as ``like``."""
    eye = torch.eye(like.numel(), dtype=like.dtype)
    return torch.vmap(f)(eye.view(-1, *like.shape)).flatten(1).t()


def random_graph(n: int, seed: int) -> Graph:
    generator = torch.Generator().manual_seed(seed)
    upper = torch.triu(torch.rand(n, n, generator=generator) < 0.4, diagonal=1).nonzero().T
    weight = torch.rand(upper.size(1), dtype=torch.float64, generator=generator) * 2
    weight = weight.masked_fill(torch.rand(upper.size(1), generator=generator) < 0.2, 0.0)  # candidates, not present
    loop = torch.tensor([[0], [0]])
    edges = torch.cat([upper, loop, upper.flip(0)], dim=1)
    return Graph(edges, torch.cat([weight, torch.ones(1, dtype=torch.float64), weight]), n)


def complete_bipartite(m: int) -> Graph:
    left, right = torch.meshgrid(torch.arange(m), torch.arange(m, 2 * m), indexing="ij")
    upper = torch.stack([left.flatten(), right.flatten()])
    return Graph(torch.cat([upper, upper.flip(0)], dim=1), torch.ones(2 * m * m, dtype=torch.float64), 2 * m)


def check_adjoint(operator: Operator, x: Tensor, seed: int, weight: Tensor | None = None) -> None:
    """``⟨Ax, y⟩ = ⟨x, A*y⟩``, with the node weights where the inner product has them."""
    image = operator(x)
    y = draw(*image.shape, seed=seed + 1)
    back = operator.adjoint(y)
    assert back.shape == x.shape
    left = (image * y).sum()
    right = (x * back).sum() if weight is None else (weight.view(-1, *[1] * (x.dim() - 1)) * x * back).sum()
    torch.testing.assert_close(left, right, rtol=0, atol=1e-12 * float(image.norm() * y.norm() + 1))


CONVOLUTIONS = [
    # channels out, in, kernel, size, and the options
    (3, 2, (3, 3), (5, 6), {"padding": 1, "padding_mode": "circular"}),
    (3, 2, (3, 3), (6, 6), {"padding": 1, "padding_mode": "circular", "stride": 2}),
    (2, 3, (5, 3), (5, 7), {"padding": (1, 0), "padding_mode": "circular", "stride": (2, 1)}),
    (2, 2, (3, 3), (4, 5), {"padding": 2, "dilation": 2, "padding_mode": "circular"}),
    (2, 3, (4, 4), (3, 3), {"padding": 1, "padding_mode": "circular"}),
    (2, 3, (3, 3), (5, 6), {"padding": 1}),
    (2, 3, (3, 2), (5, 6), {}),
    (4, 2, (3, 3), (6, 5), {"padding": 3, "groups": 2}),
    (2, 2, (3, 4), (7, 8), {"padding": (1, 2), "stride": (2, 3)}),
    (2, 2, (2, 3), (8, 7), {"padding": 1, "stride": 3, "dilation": (3, 1)}),
    (3, 1, (1, 1), (3, 3), {"stride": 2}),
]
CONV_CASES = [pytest.param(*case, id=f"{case[2]} on {case[3]}, {case[4]}") for case in CONVOLUTIONS]


def convolution(out: int, inner: int, kernel: tuple[int, int], size: tuple[int, int] | None, seed: int, **options):  # type: ignore[no-untyped-def]
    groups = options.get("groups", 1)
    return Conv2d(draw(out, inner // groups, *kernel, seed=seed), size=size, **options)


@pytest.mark.parametrize(("out", "inner", "kernel", "size", "options"), CONV_CASES)
@settings(deadline=None, max_examples=10)
@given(seed=st.integers(0, 10**6))
def test_conv2d_has_its_adjoint(out, inner, kernel, size, options, seed) -> None:  # type: ignore[no-untyped-def]
    check_adjoint(convolution(out, inner, kernel, size, seed, **options), draw(2, inner, *size, seed=seed), seed)


@pytest.mark.parametrize(("out", "inner", "kernel", "size", "options"), CONV_CASES)
def test_conv2d_agrees_with_torch_and_its_bounds_hold(out, inner, kernel, size, options) -> None:  # type: ignore[no-untyped-def]
    layer = torch.nn.Conv2d(inner, out, kernel, bias=False, **options).double()
    for seed in range(2):
        operator = convolution(out, inner, kernel, size, seed, **options)
        layer.weight.data.copy_(operator.weight)
        x = draw(2, inner, *size)
        torch.testing.assert_close(operator(x), layer(x))
        matrix = materialise(operator.forward, draw(1, inner, *size))
        everywhere = convolution(out, inner, kernel, None, seed, **options)
        for norm in NORMS:
            true, bound = float(operator_norm(matrix, norm)), float(operator.norm_bound(norm))
            assert true <= bound * (1 + EPS)
            assert bound <= float(everywhere.norm_bound(norm)) * (1 + 1e-12)
            # A kernel that wraps onto itself cancels; a stride that does not divide the size bounds rows not taken.
            reach = [options.get("dilation", 1) * (k - 1) for k in kernel]
            loose = options.get("padding_mode") == "circular" and any(r >= n for r, n in zip(reach, size, strict=True))
            assert bound <= (2.0 if loose or size == (5, 7) else 1.4) * true
            if norm != "l2" and not loose:
                assert bound == pytest.approx(true, rel=1e-12)


@pytest.mark.parametrize(("stride", "size"), [(1, (5, 6)), (2, (6, 8)), (3, (9, 6))])
def test_the_bound_of_a_circular_convolution_is_exact(stride: int, size: tuple[int, int]) -> None:
    operator = convolution(3, 2, (3, 3), size, 7, padding=1, padding_mode="circular", stride=stride)
    true = float(operator_norm(materialise(operator.forward, draw(1, 2, *size)), "l2"))
    assert float(operator.norm_bound()) == pytest.approx(true, rel=1e-12)


@settings(max_examples=8)
@given(seed=st.integers(0, 10**6))
def test_the_bound_for_all_sizes_holds_in_the_limit_and_is_within_its_factor(seed: int) -> None:
    """Large circular convolutions sample the symbol densely; the bound exceeds what they reach by at most 1.04."""
    weight = draw(2, 2, 3, 4, seed=seed)
    everywhere = float(Conv2d(weight).norm_bound())
    dense = max(float(Conv2d(weight, size=(n, n), padding_mode="circular").norm_bound()) for n in (63, 64))
    assert dense <= everywhere <= 1.04 * dense * (1 + 4e-3)


@pytest.mark.parametrize("stride", [2, 3, (2, 1), (1, 3)])
@pytest.mark.parametrize("kernel", [(3, 3), (4, 3), (3, 5)])
def test_circular_rows_that_meet_another_phase_are_bounded(
    kernel: tuple[int, int], stride: int | tuple[int, int]
) -> None:
    """A stride that does not divide the size: the phases of the kernel alone are exceeded, in ℓ1 and in ℓ2."""
    exceeded = 0
    for seed in range(4):
        padding = ((kernel[0] - 1) // 2, (kernel[1] - 1) // 2)
        weight = draw(2, 2, *kernel, seed=seed).abs()
        everywhere = Conv2d(weight, stride=stride, padding=padding, padding_mode="circular")
        aligned = Conv2d(weight, stride=stride)  # zero padding: nothing wraps around
        for size in ((5, 5), (7, 6), (4, 7)):
            layer = torch.nn.Conv2d(
                2, 2, kernel, stride=stride, padding=padding, padding_mode="circular", bias=False
            ).double()
            layer.weight.data.copy_(weight)
            matrix = materialise(lambda x, f=layer: f(x.unsqueeze(0)), draw(2, *size)).detach()
            for norm in NORMS:
                true = float(operator_norm(matrix, norm))
                assert true <= float(everywhere.norm_bound(norm)) * (1 + EPS)
                exceeded += true > 1.01 * float(aligned.norm_bound(norm))
    assert exceeded > 0


def test_without_padding_a_circular_convolution_keeps_the_bound_of_its_phases() -> None:
    weight = draw(2, 2, 3, 3)
    for norm in NORMS:
        circular = Conv2d(weight, stride=2, padding_mode="circular").norm_bound(norm)
        assert float(circular) == float(Conv2d(weight, stride=2).norm_bound(norm))


def test_the_samples_alone_are_no_bound() -> None:
    """A kernel whose symbol peaks between the samples: cos(m(ω − π/S)) takes its factor to be a bound at all."""
    samples, shift = 16, math.pi / 16
    # K(ω) = 2 Re(e^{i(ω − shift)}) up to a phase needs complex taps; two channels hold the rotation.
    c, s = math.cos(shift), math.sin(shift)
    turn = torch.tensor([[c, s], [-s, c]], dtype=torch.float64)
    weight = torch.stack([turn, torch.zeros(2, 2).double(), turn.mT], dim=2).unsqueeze(2)
    sampled = float(Conv2d(weight, size=(1, samples), padding_mode="circular").norm_bound())
    dense = float(Conv2d(weight, size=(1, 2 * samples), padding_mode="circular").norm_bound())
    assert dense > 1.019 * sampled
    assert float(Conv2d(weight).norm_bound()) == pytest.approx(dense, rel=1e-9)


@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 10**6), out=st.integers(1, 6), inner=st.integers(1, 6))
def test_dense_has_its_adjoint_and_exact_norms(seed: int, out: int, inner: int) -> None:
    operator = Dense(draw(out, inner, seed=seed))
    check_adjoint(operator, draw(4, inner, seed=seed), seed)
    batch = materialise(operator.forward, draw(2, inner))
    for norm in NORMS:
        true = float(operator_norm(batch, norm))
        assert true <= float(operator.norm_bound(norm)) * (1 + EPS)
        assert float(operator.norm_bound(norm)) <= true * (1 + 1e-10)


@pytest.mark.parametrize("n", [3, 40])
@settings(max_examples=10)
@given(seed=st.integers(0, 10**6))
def test_in_single_precision_the_bound_still_holds(n: int, seed: int) -> None:
    weight = draw(n, n, seed=seed, dtype=torch.float32)
    assert float(Dense(weight).norm_bound()) >= float(operator_norm(weight.double(), "l2"))
    kernel = draw(4, 4, 3, 3, seed=seed, dtype=torch.float32)
    single, double = (Conv2d(w, size=(6, 6), padding=1, padding_mode="circular") for w in (kernel, kernel.double()))
    assert float(single.norm_bound()) >= float(double.norm_bound())
    assert float(single.norm_bound()) <= 1.0001 * float(double.norm_bound())


@pytest.mark.parametrize("placement", ["inside", "outside"])
@pytest.mark.parametrize("normalization", ["none", "sym", "degree"])
@settings(deadline=None, max_examples=15)
@given(seed=st.integers(0, 10**6))
def test_graph_gradient(normalization: str, placement: str, seed: int) -> None:
    graph = random_graph(7, seed)
    operator = GraphGradient(graph, normalization, placement=placement, epsilon=0.01)  # type: ignore[arg-type]
    degree = operator.node_weight if normalization == "degree" else None
    check_adjoint(operator, draw(7, 3, seed=seed), seed, degree)
    matrix = materialise(operator.forward, draw(7, 1))
    if matrix.numel() == 0:
        assert float(operator.norm_bound()) == 0.0
        return
    for norm in ("l1", "linf"):
        assert float(operator.norm_bound(norm)) == pytest.approx(float(operator_norm(matrix, norm)), rel=1e-12)
    if degree is not None:
        matrix = matrix / degree.sqrt()  # G from the weighted norm on the nodes to the plain one on the edges
    bound = float(operator.norm_bound())
    assert float(operator_norm(matrix, "l2")) <= bound * (1 + EPS)
    largest = float(operator.degree.max())
    assert bound**2 <= (2 * largest if normalization == "none" else 2.0) * (1 + EPS) + 1e-300


@pytest.mark.parametrize("normalization", ["none", "sym", "degree"])
def test_the_graph_gradients_bound_is_attained_on_a_complete_bipartite_graph(normalization: str) -> None:
    operator = GraphGradient(complete_bipartite(4), normalization)  # type: ignore[arg-type]
    matrix = materialise(operator.forward, draw(8, 1))
    if normalization == "degree":
        matrix = matrix / operator.node_weight.sqrt()
    assert float(operator_norm(matrix, "l2")) == pytest.approx(float(operator.norm_bound()), rel=1e-12)
    expected = 8.0 if normalization == "none" else 2 * 4 / 5
    assert float(operator.norm_bound()) ** 2 == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("normalization", ["none", "sym", "degree"])
@pytest.mark.parametrize("placement", ["inside", "outside"])
def test_the_graph_gradient_is_that_of_the_gradient_flow(normalization: str, placement: str) -> None:
    graph = random_graph(8, 3)
    linear = GraphGradientFlow(3, activation="identity", placement=placement, normalization=normalization).double()  # type: ignore[arg-type]
    gradient = GraphGradient(graph, normalization, placement=placement)  # type: ignore[arg-type]
    assert linear.weight is not None
    weight = Dense(linear.weight.detach().t())  # the flow multiplies by W from the right
    x = draw(8, 3)
    expected = -weight.adjoint(gradient.adjoint(gradient(weight(x))))
    torch.testing.assert_close(linear.field(x, graph).detach(), expected)
    whole = Composition(gradient, weight)
    torch.testing.assert_close(whole.adjoint(whole(x)), -expected)
    assert float(whole.norm_bound() ** 2) <= float(linear.smoothness(graph).detach()) * (1 + 1e-12)
    if placement == "inside":
        curved = GraphGradientFlow(
            3, activation="tanh", placement=placement, normalization=normalization, learn_weight=False
        )
        expected = -gradient.adjoint(torch.tanh(gradient(x)))
        torch.testing.assert_close(curved.field(x, graph), expected)


def test_composition_multiplies_bounds_and_reverses_adjoints() -> None:
    inner, outer = Dense(draw(4, 3)), Dense(draw(5, 4, seed=1))
    both = Composition(outer, inner)
    check_adjoint(both, draw(2, 3), 5)
    matrix = outer.weight @ inner.weight
    for norm in NORMS:
        assert float(operator_norm(matrix, norm)) <= float(both.norm_bound(norm))
        assert float(both.norm_bound(norm)) == pytest.approx(float(outer.norm_bound(norm) * inner.norm_bound(norm)))
    # Attained where the singular vectors fit: Wᵀ after W.
    aligned = Composition(Dense(inner.weight.t()), inner)
    assert float(aligned.norm_bound()) == pytest.approx(float(operator_norm(inner.weight.t() @ inner.weight, "l2")))


def every_operator() -> list[tuple[Operator, Tensor]]:
    graph = random_graph(7, 11)
    return [
        (Dense(draw(4, 3)), draw(2, 3)),
        (Conv2d(draw(3, 2, 3, 3), size=(5, 5), padding=1), draw(1, 2, 5, 5)),
        (Conv2d(draw(3, 2, 3, 3), size=(6, 6), padding=1, stride=2, padding_mode="circular"), draw(1, 2, 6, 6)),
        (GraphGradient(graph), draw(7, 2)),
        (GraphGradient(graph, "sym", placement="inside"), draw(7, 2)),
        (Composition(GraphGradient(graph), Dense(draw(4, 3))), draw(7, 3)),
    ]


@pytest.mark.parametrize("norm", NORMS)
def test_the_estimate_from_below_never_exceeds_the_bound(norm: str) -> None:
    for operator, like in every_operator():
        estimate = estimate_norm(operator.forward, operator.adjoint, like, norm=norm)
        assert estimate.value <= float(operator.norm_bound(norm)) * (1 + EPS), operator


def test_bounds_are_differentiable() -> None:
    dense = draw(3, 4, seed=2).requires_grad_()
    kernel = draw(2, 1, 3, 2, seed=2).requires_grad_()
    graph = random_graph(6, 5)
    weight = graph.edge_weight.clone().requires_grad_()

    def of_graph(edge_weight: Tensor, normalization: str, norm: str) -> Tensor:
        return GraphGradient(Graph(graph.edge_index, edge_weight, 6), normalization).norm_bound(norm)  # type: ignore[arg-type]

    for norm in NORMS:
        assert torch.autograd.gradcheck(lambda w, norm=norm: Dense(w).norm_bound(norm), dense)
        for options in ({}, {"size": (4, 4), "padding": 1, "stride": 2}):
            assert torch.autograd.gradcheck(
                lambda w, norm=norm, options=options: Conv2d(w, **options).norm_bound(norm), kernel
            )
        for normalization in ("none", "sym"):
            (gradient,) = torch.autograd.grad(of_graph(weight, normalization, norm), weight)
            assert bool(torch.isfinite(gradient).all())
            assert bool((gradient != 0).any())


def test_nothing_is_lost_at_zero() -> None:
    for operator in (Dense(torch.zeros(3, 2)), Conv2d(torch.zeros(3, 2, 3, 3)), Dense(torch.zeros(0, 2))):
        for norm in NORMS:
            assert float(operator.norm_bound(norm)) == 0.0
    empty = GraphGradient(Graph(torch.zeros(2, 0, dtype=torch.long), torch.zeros(0), 3))
    assert float(empty.norm_bound()) == 0.0
    assert empty(torch.ones(3, 2)).shape == (0, 2)
    torch.testing.assert_close(empty.adjoint(torch.ones(0, 2)), torch.zeros(3, 2))


def test_errors_say_what_was_expected() -> None:
    with pytest.raises(ValueError, match=r"shape \[out, in\], got \[3\]"):
        Dense(torch.ones(3))
    with pytest.raises(ValueError, match="padding_mode must be 'zeros' or 'circular', got 'reflect'"):
        Conv2d(torch.ones(1, 1, 3, 3), padding_mode="reflect")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="circular padding needs"):
        Conv2d(torch.ones(1, 1, 3, 3), padding=2, padding_mode="circular")
    with pytest.raises(ValueError, match="the adjoint needs the size"):
        Conv2d(torch.ones(1, 1, 3, 3), stride=2).adjoint(torch.ones(1, 1, 3, 3))
    with pytest.raises(ValueError, match="for inputs of size"):
        Conv2d(torch.ones(1, 1, 3, 3), size=(5, 5)).forward(torch.ones(1, 1, 4, 4))
    with pytest.raises(ValueError, match="at least one operator"):
        Composition()
    with pytest.raises(ValueError, match="unknown norm 'l3'"):
        Dense(torch.ones(1, 1)).norm_bound("l3")
