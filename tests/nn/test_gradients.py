"""First and second derivatives of every model and layer, in reverse and in forward mode, by every way to them."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.utils.checkpoint import checkpoint

from contractive_gnn.activations import GroupMCP
from contractive_gnn.compiled import kernels
from contractive_gnn.dynamics import (
    Adjacency,
    AdjacencyFlow,
    Diffusion,
    GradientAscent,
    GraphGradientFlow,
    ImplicitFlow,
)
from contractive_gnn.graph import Graph
from contractive_gnn.nn import (
    AlternatingConv,
    CoupledConv,
    ElasticConv,
    EquilibriumConv,
    FlowConv,
    RUNGConv,
    Similarity,
    build,
    model_names,
)

NODES, FEATURES, CLASSES = 12, 5, 3

ROBUST = {"name": "robust", "model": {"hidden_channels": 8}}
SETTINGS: dict[str, dict[str, Any]] = {
    "ensemble": {"members": [ROBUST, {"name": "gcn"}]},
    "mixture": {"teacher": ROBUST},
    "gcn-svd": {"rank": 4},
    "gradient-ascent": {"constrained": False, "step": 0.1},
    "hamiltonian-flow": {"constrained": False, "step": 0.1},
}
FIRST_ONLY = ("rgcn", "gcn-jaccard", "gcn-svd", "simp-gcn")  # DeepRobust's
OTHER = ("pro-gnn", "median-gcn")  # the one answers where it was trained, the other has no gradient by weights


class Coupled(nn.Module):
    """A layer of the coupled flow, features and edge weights, as one that gives features."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = CoupledConv(FEATURES, adjacency_flow=AdjacencyFlow())

    def forward(self, x: Tensor, edge_index: Tensor, edge_weight: Tensor) -> Tensor:
        x, adjacency = self.conv(x, Adjacency.of(Graph.of(x, edge_index, edge_weight)))
        return torch.as_tensor(self.conv(x, adjacency, anchor=x)[0])


LAYERS: dict[str, Callable[[], nn.Module]] = {
    "flow": lambda: FlowConv(Diffusion(activation="huber", threshold=0.3)),
    "flow-inside": lambda: FlowConv(GraphGradientFlow(FEATURES, activation="huber", placement="inside", mu=0.2)),
    "flow-inside-fixed-weight": lambda: FlowConv(
        GraphGradientFlow(FEATURES, activation="huber", placement="inside", normalization="none", learn_weight=False)
    ),
    "flow-heun": lambda: FlowConv(
        GraphGradientFlow(FEATURES, activation="group-huber", mu=0.2, learn_weight=False), scheme="heun"
    ),
    "flow-learned-threshold": lambda: FlowConv(
        GraphGradientFlow(FEATURES, activation=GroupMCP(4.0, learnable=True), mu=3.0)
    ),
    "equilibrium": lambda: EquilibriumConv(ImplicitFlow(FEATURES, activation="tanh"), max_iterations=5000),
    "equilibrium-flow": lambda: EquilibriumConv(GraphGradientFlow(FEATURES, mu=0.8), max_iterations=5000),
    "alternating": lambda: AlternatingConv(
        GraphGradientFlow(FEATURES, mu=0.5), GradientAscent(FEATURES, activation="softsign")
    ),
    "coupled": Coupled,
    "similarity": Similarity,
    "rung": RUNGConv,
    "elastic": lambda: ElasticConv(lambda1=0.2),
    "elastic-l1": lambda: ElasticConv(lambda1=0.2, norm="l1"),
}

MODELS = [name for name in model_names() if name not in OTHER]
TWICE = [name for name in MODELS if name not in FIRST_ONLY]


def made(name: str) -> nn.Module:
    torch.manual_seed(0)
    if name in LAYERS:
        return LAYERS[name]().double().eval()
    if name in FIRST_ONLY:
        pytest.importorskip("deeprobust")
    return build(name, FEATURES, CLASSES, **SETTINGS.get(name, {})).double().eval()


class Problem:
    """A function of x and of the edge weights, a point and a direction; the weights of an edge's two ways are one."""

    def __init__(self, name: str) -> None:
        generator = torch.Generator().manual_seed(2)
        every = torch.combinations(torch.arange(NODES)).t()
        pairs = every[:, torch.randperm(every.size(1), generator=generator)[:24]]
        self.edge_index = torch.cat([pairs, pairs.flip(0)], dim=1)
        self.model = made(name)
        draw = {"dtype": torch.float64, "generator": generator}
        self.x = 0.2 + torch.rand(NODES, FEATURES, **draw)  # type: ignore[call-overload]
        self.w = 0.5 + torch.rand(24, **draw)  # type: ignore[call-overload]
        self.direction = torch.randn(NODES, FEATURES, **draw), torch.randn(24, **draw)  # type: ignore[call-overload]
        self.shape: Tensor = torch.randn(100, **draw)  # type: ignore[call-overload]

    def __call__(self, x: Tensor, w: Tensor) -> Tensor:
        out = self.model(x, self.edge_index, torch.cat([w, w])).flatten()
        return (out.square() * self.shape[: len(out)]).sum()

    def gradient(self, x: Tensor, w: Tensor, *, create_graph: bool = False) -> tuple[Tensor, ...]:
        return torch.autograd.grad(
            self(x, w), (x, w), create_graph=create_graph, allow_unused=True, materialize_grads=True
        )

    def at(self, distance: float = 0.0) -> tuple[Tensor, Tensor]:
        x, w = (t + distance * v for t, v in zip((self.x, self.w), self.direction, strict=True))
        return x.requires_grad_(), w.requires_grad_()

    def along(self, gradient: tuple[Tensor, ...]) -> Tensor:
        return torch.stack([(g * v).sum() for g, v in zip(gradient, self.direction, strict=True)]).sum()


def ways(name: str) -> list[contextlib.AbstractContextManager[None]]:
    """With the kernels and without them, where that is another way."""
    plain = [] if "ensemble" in name or name == "robust-mixture" else [kernels.disabled()]  # their members have had it
    return [contextlib.nullcontext(), *plain]


@pytest.mark.parametrize("name", [*TWICE, *LAYERS])
def test_the_gradient_is_the_same_with_its_graph_and_right(name: str) -> None:
    problem, step = Problem(name), 1e-6
    difference = (problem(*problem.at(step)) - problem(*problem.at(-step))) / (2 * step)
    for way in ways(name):
        with way:
            alone, with_graph = (problem.gradient(*problem.at(), create_graph=create) for create in (False, True))
        torch.testing.assert_close(with_graph, alone, rtol=1e-9, atol=1e-11)
        torch.testing.assert_close(problem.along(alone), difference, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("name", [*TWICE, *LAYERS])
def test_products_with_the_hessian_are_differences_of_gradients(name: str) -> None:
    problem, step = Problem(name), 1e-6
    for way in ways(name):
        with way:
            ends = [problem.gradient(*problem.at(distance)) for distance in (step, -step)]
            point = problem.at()
            slope = problem.along(problem.gradient(*point, create_graph=True))
            if not slope.requires_grad:  # affine in both
                product: tuple[Tensor, ...] = tuple(torch.zeros_like(t) for t in point)
            else:
                product = torch.autograd.grad(slope, point, allow_unused=True, materialize_grads=True)
        difference = tuple((a - b) / (2 * step) for a, b in zip(*ends, strict=True))
        size = max(float(t.abs().max()) for t in difference)
        torch.testing.assert_close(product, difference, rtol=1e-4, atol=1e-6 * (1 + size))


@pytest.mark.parametrize("name", [name for name in [*TWICE, *LAYERS] if not name.startswith("equilibrium")])
def test_forward_mode_agrees_with_reverse_mode(name: str) -> None:
    problem = Problem(name)
    expected = problem.along(problem.gradient(*problem.at()))
    with forward_ad.dual_level():
        pairs = zip((problem.x, problem.w), problem.direction, strict=True)
        dual = [forward_ad.make_dual(t, v) for t, v in pairs]
        tangent = forward_ad.unpack_dual(problem(*dual)).tangent  # type: ignore[no-untyped-call]
    torch.testing.assert_close(tangent, expected, rtol=1e-9, atol=1e-11)
    twice = torch.autograd.functional.jvp(problem, (problem.x, problem.w), problem.direction)[1]  # type: ignore[no-untyped-call]
    torch.testing.assert_close(twice, expected, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("name", FIRST_ONLY)
def test_second_derivatives_that_torch_gets_wrong_are_refused(name: str) -> None:
    problem = Problem(name)
    assert bool(problem.gradient(*problem.at())[1].any())
    with pytest.raises(NotImplementedError, match="create_graph=True asks for second derivatives"):
        problem.gradient(*problem.at(), create_graph=True)


@pytest.mark.parametrize("name", ["robust", "linf-diffusion", "gradient-flow", "robust-ensemble"])
def test_a_pair_of_weight_zero_has_the_gradient_of_a_light_edge(name: str) -> None:
    problem = Problem(name)
    slopes = []
    for weight in (0.0, 1e-7):
        x, w = problem.at()
        w = torch.where(torch.arange(24) < 6, weight, w.detach()).requires_grad_()
        slopes.append([problem.gradient(x, w, create_graph=create)[1][:6] for create in (False, True)])
    torch.testing.assert_close(slopes[0][0], slopes[0][1], rtol=1e-9, atol=1e-11)
    torch.testing.assert_close(slopes[0][0], slopes[1][0], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", ["csgnn", "robust", "robust-ensemble", "flow-learned-threshold", "equilibrium"])
@pytest.mark.parametrize("reentrant", [True, False])
def test_what_is_computed_again_has_the_same_gradient(name: str, reentrant: bool) -> None:
    problem = Problem(name)
    point, learned = problem.at(), [p for p in problem.model.parameters() if p.requires_grad]
    problem(*point).backward()  # type: ignore[no-untyped-call]
    expected = [None if t.grad is None else t.grad.clone() for t in (*point, *learned)]
    problem.model.zero_grad()
    again = problem.at()
    checkpoint(problem, *again, use_reentrant=reentrant).backward()  # type: ignore[no-untyped-call]
    for t, wanted in zip((*again, *learned), expected, strict=True):
        torch.testing.assert_close(t.grad, wanted, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("name", ["robust", "robust-provable", "gnnguard", "elastic"])
def test_rows_of_zeros_and_self_loops_leave_second_derivatives_finite(name: str) -> None:
    problem = Problem(name)
    problem.x[3] = 0
    problem.edge_index = torch.cat([problem.edge_index, torch.full((2, 2), 5)], dim=1)
    problem.w = torch.cat([problem.w, torch.ones(1, dtype=torch.float64)])
    problem.direction = problem.direction[0], torch.cat([problem.direction[1], torch.zeros(1, dtype=torch.float64)])
    point = problem.at()
    product = torch.autograd.grad(problem.along(problem.gradient(*point, create_graph=True)), point)
    assert all(bool(t.isfinite().all()) for t in product)


@pytest.mark.parametrize("name", ["robust", "linf-diffusion", "csgnn"])
def test_a_jacobian_taken_at_once_is_that_of_row_after_row(name: str) -> None:
    problem = Problem(name)
    w = torch.cat([problem.w, problem.w])
    jacobians = [
        torch.autograd.functional.jacobian(  # type: ignore[no-untyped-call]
            lambda x: problem.model(x, problem.edge_index, w)[:2], problem.x, vectorize=vectorize
        )
        for vectorize in (False, True)
    ]
    torch.testing.assert_close(*jacobians, rtol=1e-9, atol=1e-11)
