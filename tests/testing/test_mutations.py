"""Fifteen wrong conditions, each of them plausible, and the falsifier that must find every one."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from contractive_gnn.dynamics import AdjacencyFlow, Diffusion, GradientFlow, ImplicitFlow, registry
from contractive_gnn.dynamics.ascent import GradientAscent
from contractive_gnn.dynamics.coupled import CoupledFlow
from contractive_gnn.dynamics.hamiltonian import HamiltonianFlow
from contractive_gnn.graph import Graph
from contractive_gnn.testing import verify_one

TRIES = 2500


def scaled(method: Callable[..., Any], factor: float) -> Callable[..., Any]:
    return lambda *arguments: factor * method(*arguments)


def without_graph(self: GradientFlow, graph: Graph) -> Tensor:
    return graph.edge_weight.new_ones(())


def without_weight(self: GradientFlow) -> float:
    return 1.0


def sign_of_k1(self: AdjacencyFlow) -> Tensor:
    return torch.cat([(self.k.abs().sum() - self.alpha).unsqueeze(0), self.k])


def without_s_min(self: AdjacencyFlow) -> Tensor:
    return torch.cat([(self.alpha - self.k.abs().sum()).unsqueeze(0), self.k])


def undivided(self: AdjacencyFlow, n: int) -> tuple[Tensor, ...]:
    return (self.coefficients() / self.k.new_tensor([1.0, 1.0, 2 * n, 1.0, n**2, n, n**2, n, 2 * n])).unbind()


def without_self_loop(self: Diffusion, graph: Graph) -> Tensor:
    return 2.0 * graph.edge_weight / graph.row_sum(graph.edge_weight).clamp(min=1e-9)[graph.target]


def monotone(self: GradientFlow, graph: Graph) -> float:
    return self.mu


def own_weight_only(self: ImplicitFlow) -> Tensor:
    own, _ = self.matrices()
    return (own.diagonal() + own.abs().sum(dim=1) - own.diagonal().abs()).max()


def halved(self: GradientAscent, graph: Graph, step: float) -> Tensor:
    return 1 + step * self.smoothness(graph) / 2


def uncoupled(self: CoupledFlow) -> float:
    return 1e-3


def conserving(self: HamiltonianFlow, graph: Graph, step: float) -> Tensor:
    return torch.ones(())


def one_end(self: Diffusion, graph: Graph, x: Tensor | None = None) -> float:
    return math.nan if x is None else 0.5 * self.sigma.bound / (1.0 + float(graph.row_sum(graph.edge_weight).max()))


MUTATIONS: dict[str, tuple[str, type, str, Callable[..., Any]]] = {
    "step bound times 1.2 (gradient flow)": (
        "gradient-flow-unnormalised", GradientFlow, "max_step", scaled(GradientFlow.max_step, 1.2)
    ),
    "step bound times 1.2 (diffusion)": ("diffusion-linear", Diffusion, "max_step", scaled(Diffusion.max_step, 1.2)),
    "step bound times 1.2 (adjacency)": (
        "adjacency-linear", AdjacencyFlow, "max_step", scaled(AdjacencyFlow.max_step, 1.2)
    ),
    "‖G‖² missing, as printed in the paper": (
        "gradient-flow-unnormalised", GradientFlow, "gradient_norm_squared", without_graph
    ),
    "‖W‖ missing": ("gradient-flow-linear", GradientFlow, "weight_norm", without_weight),
    "sign of k₁": ("adjacency-l1-inside", AdjacencyFlow, "coefficients", sign_of_k1),
    "1/s_min missing in k₁": ("adjacency-l1-outside", AdjacencyFlow, "coefficients", without_s_min),
    "k₄ and k₆ not divided": ("adjacency-max-outside", AdjacencyFlow, "_scaled", undivided),
    "row sums of p above 1": ("diffusion-linear", Diffusion, "transition", without_self_loop),
    "slopes below 0 forgotten": ("redescending-flow", GradientFlow, "rate", monotone),
    "messages forgotten in μ_∞": ("implicit-flow", ImplicitFlow, "measure_bound", own_weight_only),
    "ascent bound halved": ("gradient-ascent", GradientAscent, "lipschitz", halved),
    "Hamiltonian taken for an isometry": ("hamiltonian-flow", HamiltonianFlow, "lipschitz", conserving),
    "coupling forgotten": ("coupled-flow", CoupledFlow, "structure_gain", uncoupled),
    "structural constant of the largest degree": ("diffusion", Diffusion, "structure_lipschitz", one_end),
}  # fmt: skip


@pytest.mark.parametrize("mutation", MUTATIONS)
def test_a_wrong_condition_is_found(mutation: str, monkeypatch: pytest.MonkeyPatch) -> None:
    name, owner, attribute, wrong = MUTATIONS[mutation]
    assert verify_one(name, lambda: registry.build(name, 2), tries=300).word == "holds"
    monkeypatch.setattr(owner, attribute, wrong)
    verdict = verify_one(name, lambda: registry.build(name, 2), tries=TRIES)
    assert verdict.word == "BROKEN"
    claim, finding = verdict.broken[0]
    print(f"{mutation}: {claim.what} on {claim.graph}: claimed {claim.constant:.4f}, found {finding.value:.4f}")


def test_the_published_adjacency_is_refuted_and_not_called_broken() -> None:
    verdict = verify_one("adjacency-published", lambda: registry.build("adjacency-published", 2), tries=2000)
    assert not verdict.certified
    assert verdict.word == "refuted"
    claim, finding = verdict.broken[0]
    assert claim.kind == "step"
    assert finding.value > 1.05
    assert int((finding.x != finding.y).sum()) <= 2  # one entry, or a symmetric pair: a flipped edge
