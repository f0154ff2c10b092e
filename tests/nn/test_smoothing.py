"""Elastic GNN and RUNG: they minimise what they say, have the limits they say, and hide nothing from an attacker."""

import itertools
import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch_geometric.nn import APPNP

from contractive_gnn.graph import Graph
from contractive_gnn.nn import RUNG, ElasticConv, RUNGConv
from contractive_gnn.testing.graphs import random_weighted

GRAPH = random_weighted(5, seed=1)


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def on(graph: Graph, conv: nn.Module, x: Tensor) -> Tensor:
    out: Tensor = conv(x, graph.edge_index, graph.edge_weight)
    return out


def minimised(conv: ElasticConv | RUNGConv, x: Tensor, start: Tensor) -> float:
    """The objective where a general minimiser arrives from ``start``."""
    f = start.clone().requires_grad_()
    optimizer = torch.optim.LBFGS([f], max_iter=2000, line_search_fn="strong_wolfe", tolerance_change=1e-14)

    def closure() -> Tensor:
        optimizer.zero_grad()
        value = conv.objective(f, x, GRAPH.edge_index, GRAPH.edge_weight)
        value.backward()
        return value

    optimizer.step(closure)
    return float(closure().detach())


@pytest.mark.parametrize("norm", ["l21", "l1"])
@pytest.mark.parametrize(("lambda1", "lambda2"), [(0.3, 0.0), (0.3, 1.0), (3.0, 3.0)])
def test_elastic_message_passing_finds_the_minimum(norm: Any, lambda1: float, lambda2: float) -> None:
    """The minimiser is unique. LBFGS stalls at the kinks, so it may only be a little worse, from several starts."""
    conv = ElasticConv(num_steps=3000, lambda1=lambda1, lambda2=lambda2, norm=norm)
    x = draw(5, 3)
    f = on(GRAPH, conv, x)
    reached = float(conv.objective(f, x, GRAPH.edge_index, GRAPH.edge_weight))
    found = min(minimised(conv, x, f + scale * draw(5, 3, seed=7)) for scale in (0.01, 0.1, 1.0))
    assert reached <= found + 1e-9
    assert found == pytest.approx(reached, rel=1e-2)


def test_elastic_message_passing_satisfies_the_optimality_condition_in_closed_form() -> None:
    """Two nodes, one edge: half the difference is soft-thresholded, and shrunk."""
    edges, x = torch.tensor([[0, 1], [1, 0]]), torch.tensor([[3.0], [-1.0]], dtype=torch.float64)
    f = ElasticConv(num_steps=500, lambda1=0.8, lambda2=0.5)(x, edges)
    # degrees 2: ΔF = (F₀ − F₁)/√2 = δ minimises 0.8 |δ| + 0.25 δ² + (δ − 4/√2)²/2, and F₀ + F₁ = 2
    delta = (4 / math.sqrt(2) - 0.8) / 1.5
    expected = torch.tensor([[1 + delta / math.sqrt(2)], [1 - delta / math.sqrt(2)]], dtype=torch.float64)
    torch.testing.assert_close(f, expected)
    heavy = ElasticConv(num_steps=500, lambda1=3.0, lambda2=0.5)(x, edges)
    torch.testing.assert_close(heavy, torch.ones_like(x))  # 3 exceeds 4/√2: the edge is fused


def test_without_the_robust_part_every_elastic_step_is_one_of_appnp() -> None:
    x = draw(5, 3)
    elastic = ElasticConv(num_steps=7, lambda1=0.0, lambda2=3.0)
    torch.testing.assert_close(on(GRAPH, elastic, x), on(GRAPH, APPNP(7, alpha=0.25), x))


@pytest.mark.parametrize("gamma", [1.0, 3.0, math.inf])
@pytest.mark.parametrize("alpha", [0.01, 0.1, 0.5])
@settings(max_examples=5)
@given(seed=st.integers(0, 2**31))
def test_no_step_of_rung_increases_its_objective(gamma: float, alpha: float, seed: int) -> None:
    graph, x = random_weighted(12, seed=seed), 2 * draw(12, 3, seed=seed)
    conv = RUNGConv(alpha=alpha, gamma=gamma)
    values = [float(conv.objective(x, x, graph.edge_index, graph.edge_weight))]
    for steps in range(1, 30):
        conv = RUNGConv(num_steps=steps, alpha=alpha, gamma=gamma)
        values.append(float(conv.objective(on(graph, conv, x), x, graph.edge_index, graph.edge_weight)))
    assert all(after <= before + 1e-12 * values[0] for before, after in itertools.pairwise(values))
    # with a finite γ every difference may exceed it, and nothing is left to move
    assert math.isfinite(gamma) or values[-1] < values[0]


@pytest.mark.parametrize("gamma", [0.5, 3.0, math.inf])
def test_rung_ends_where_a_minimiser_cannot_improve(gamma: float) -> None:
    conv, x = RUNGConv(num_steps=5000, alpha=0.3, gamma=gamma), draw(5, 3)
    f = on(GRAPH, conv, x).requires_grad_()
    value = conv.objective(f, x, GRAPH.edge_index, GRAPH.edge_weight)
    (slope,) = torch.autograd.grad(value, f)
    assert float(slope.abs().max()) < 1e-8
    assert minimised(conv, x, f.detach()) == pytest.approx(float(value.detach()), rel=1e-9)


def test_rung_without_a_threshold_is_the_robust_part_of_elastic_message_passing() -> None:
    """γ = ∞ and ε → 0: λ₁ Σ‖ΔF‖ + ½‖F − X‖² divided by λ₁, with λ = 1/(2λ₁)."""
    x = draw(5, 3)
    rung = RUNGConv(num_steps=20_000, alpha=1 / 3, gamma=math.inf, epsilon=1e-10)
    elastic = ElasticConv(num_steps=3000, lambda1=1.0, lambda2=0.0)
    assert rung.fidelity == pytest.approx(0.5)
    torch.testing.assert_close(on(GRAPH, rung, x), on(GRAPH, elastic, x), atol=1e-3, rtol=1e-3)


def test_with_a_penalty_that_is_a_square_rung_has_the_fixed_point_of_appnp() -> None:
    """√(y² + ε) ≈ √ε + y²/(2√ε), so α = λ/(1 + λ) becomes a teleport of λ'/(1 + λ') with λ' = 2√ε λ."""
    x, root = draw(5, 3), 1e4
    teleport = 0.2
    fidelity = teleport / (1 - teleport) / (2 * root)
    rung = RUNGConv(num_steps=500, alpha=fidelity / (1 + fidelity), gamma=math.inf, epsilon=root**2)
    torch.testing.assert_close(on(GRAPH, rung, x), on(GRAPH, APPNP(500, alpha=teleport), x), atol=1e-6, rtol=1e-6)


def test_rung_cuts_an_edge_whose_difference_exceeds_the_threshold() -> None:
    """What the far node is makes no difference any more; under ℓ1 it still pulls."""
    edges = torch.tensor([[0, 1, 1, 2], [1, 0, 2, 1]])
    x = torch.tensor([[0.0], [0.1], [50.0]], dtype=torch.float64)
    further = torch.tensor([[0.0], [0.1], [90.0]], dtype=torch.float64)
    cut, pulled = RUNGConv(gamma=3.0), RUNGConv(gamma=math.inf)
    torch.testing.assert_close(cut(x, edges)[:2], cut(further, edges)[:2])
    torch.testing.assert_close(cut(x, edges)[2], x[2])
    assert float((pulled(x, edges)[0] - cut(x, edges)[0]).abs()) > 0.1


@pytest.mark.parametrize("conv", [ElasticConv(num_steps=6), ElasticConv(num_steps=6, norm="l1"), RUNGConv(num_steps=6)])
def test_its_gradient_is_exact_absent_edges_included(conv: nn.Module) -> None:
    weight = GRAPH.edge_weight.clone()
    first = (GRAPH.edge_index.min(0).values == GRAPH.source[0]) & (GRAPH.edge_index.max(0).values == GRAPH.target[0])
    weight[first] = 1e-5  # a difference of 1e-6 to either side stays a weight
    weight.requires_grad_()
    x = draw(5, 3).requires_grad_()
    assert torch.autograd.gradcheck(lambda x, w: conv(x, GRAPH.edge_index, w), (x, weight), atol=1e-5)
    absent = torch.where(first, 0.0, weight.detach()).requires_grad_()
    near, here = (torch.autograd.grad(conv(x, GRAPH.edge_index, w).square().sum(), w)[0] for w in (weight, absent))
    assert bool((here[first] != 0).all())
    torch.testing.assert_close(here, near, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("conv", [ElasticConv(), RUNGConv()])
def test_self_loops_change_nothing(conv: nn.Module) -> None:
    looped = torch.cat([GRAPH.edge_index, torch.tensor([[0, 3], [0, 3]])], dim=1)
    weight = torch.cat([GRAPH.edge_weight, torch.tensor([2.0, 5.0], dtype=torch.float64)])
    x = draw(5, 3)
    torch.testing.assert_close(conv(x, looped, weight), on(GRAPH, conv, x))


def test_no_threshold_is_an_infinite_one() -> None:
    assert RUNG(3, 2, gamma=None).conv.gamma == math.inf


@pytest.mark.parametrize(
    ("conv", "options", "complaint"),
    [
        (ElasticConv, {"num_steps": 0}, "num_steps must be at least 1, got 0"),
        (ElasticConv, {"lambda1": -1.0}, r"lambda1 must be at least 0, got -1\.0"),
        (ElasticConv, {"norm": "l2"}, "norm must be 'l21' or 'l1', got 'l2'"),
        (RUNGConv, {"num_steps": 0}, "num_steps must be at least 1, got 0"),
        (RUNGConv, {"alpha": 1.0}, r"alpha must be above 0 and below 1, got 1\.0"),
        (RUNGConv, {"gamma": 0.0}, r"gamma must be positive, got 0\.0"),
        (RUNGConv, {"epsilon": 0.0}, r"epsilon must be positive, got 0\.0"),
    ],
)
def test_options_out_of_range_are_refused(conv: Any, options: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        conv(**options)
