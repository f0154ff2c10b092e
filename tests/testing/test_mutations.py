"""Fifteen wrong conditions, each of them plausible, and the falsifier that must find every one."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from contractive_gnn.activations import Huber
from contractive_gnn.dynamics import AdjacencyFlow, Diffusion, Dynamics, GraphGradientFlow, ImplicitFlow, registry
from contractive_gnn.dynamics.ascent import GradientAscent
from contractive_gnn.dynamics.coupled import CoupledFlow
from contractive_gnn.dynamics.hamiltonian import HamiltonianFlow
from contractive_gnn.graph import Graph
from contractive_gnn.testing import verify_one

TRIES = 2500


def scaled(method: Callable[..., Any], factor: float) -> Callable[..., Any]:
    return lambda *arguments: factor * method(*arguments)


def without_graph(self: GraphGradientFlow, graph: Graph) -> Tensor:
    return graph.edge_weight.new_ones(())


def without_weight(self: GraphGradientFlow) -> float:
    return 1.0


def sign_of_k1(self: AdjacencyFlow) -> Tensor:
    return torch.cat([(self.k.abs().sum() - self.alpha).unsqueeze(0), self.k])


def without_s_min(self: AdjacencyFlow) -> Tensor:
    return torch.cat([(self.alpha - self.k.abs().sum()).unsqueeze(0), self.k])


def undivided(self: AdjacencyFlow, n: int) -> tuple[Tensor, ...]:
    return (self.coefficients() / self.k.new_tensor([1.0, 1.0, 2 * n, 1.0, n**2, n, n**2, n, 2 * n])).unbind()


def without_self_loop(self: Diffusion, graph: Graph) -> Tensor:
    return 2.0 * graph.edge_weight / graph.row_sum(graph.edge_weight).clamp(min=1e-9)[graph.target]


def monotone(self: GraphGradientFlow, graph: Graph) -> float:
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


MUTATIONS: dict[str, tuple[str, type, str, Any]] = {
    "step bound times 1.2 (gradient flow)": (
        "gradient-flow-unnormalised", GraphGradientFlow, "max_step", scaled(GraphGradientFlow.max_step, 1.2)
    ),
    "step bound times 1.2 (diffusion)": ("diffusion-linear", Diffusion, "max_step", scaled(Diffusion.max_step, 1.2)),
    "step bound times 1.2 (adjacency)": (
        "adjacency-linear", AdjacencyFlow, "max_step", scaled(AdjacencyFlow.max_step, 1.2)
    ),
    "‖G‖² missing, as printed in the paper": (
        "gradient-flow-unnormalised", GraphGradientFlow, "gradient_norm_squared", without_graph
    ),
    "‖W‖ missing": ("gradient-flow-linear", GraphGradientFlow, "weight_norm", without_weight),
    "sign of k₁": ("adjacency-l1-inside", AdjacencyFlow, "coefficients", sign_of_k1),
    "1/s_min missing in k₁": ("adjacency-l1-outside", AdjacencyFlow, "coefficients", without_s_min),
    "k₄ and k₆ not divided": ("adjacency-max-outside", AdjacencyFlow, "_scaled", undivided),
    "row sums of p above 1": ("diffusion-linear", Diffusion, "transition", without_self_loop),
    "slopes below 0 forgotten": ("redescending-flow", GraphGradientFlow, "rate", monotone),
    "messages forgotten in μ_∞": ("implicit-flow", ImplicitFlow, "measure_bound", own_weight_only),
    "ascent bound halved": ("gradient-ascent", GradientAscent, "lipschitz", halved),
    "Hamiltonian taken for an isometry": ("hamiltonian-flow", HamiltonianFlow, "lipschitz", conserving),
    "coupling forgotten": ("coupled-flow", CoupledFlow, "structure_gain", uncoupled),
    "structural constant of the largest degree": ("diffusion", Diffusion, "structure_lipschitz", one_end),
    "slope times 0.8": (
        "gradient-flow-unnormalised", GraphGradientFlow, "smoothness", scaled(GraphGradientFlow.smoothness, 0.8)
    ),
    "bound of σ times 0.8": ("diffusion", Huber, "unit_bound", 0.8),
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


CERTIFIED = [name for name in registry.DYNAMICS if name != "adjacency-published"]

LOOSE = {
    # Found over claimed: what is scaled by 0.8 is not found. W is drawn, and turns σ away from its singular vectors.
    ("gradient-flow", "Lipschitz in A at a state"): 0.14,
    ("gradient-flow-linear", "Lipschitz in A at a state"): 0.20,
    ("gradient-flow-degree", "Lipschitz in A at a state"): 0.42,
    ("gradient-flow-degree", "Lipschitz in A"): 0.69,
    ("gradient-flow-degree", "Lipschitz in A at a state, saturated: √Σ|ã − a|"): 0.27,
    ("gradient-flow-degree", "Lipschitz in A at a state, saturated: any A"): 0.35,
    ("gradient-flow-degree", "Lipschitz in A, saturated: √Σ|ã − a|"): 0.38,
    ("gradient-flow-degree", "Lipschitz in A, saturated: any A"): 0.54,
    ("gradient-ascent", "Lipschitz in A at a state"): 0.14,
    ("hamiltonian-flow", "Lipschitz in A at a state"): 0.19,
    ("redescending-flow", "Lipschitz in A at a state"): 0.23,
    # the slope −1 of σ, all edges at once
    ("redescending-flow", "step"): 0.78,
    ("redescending-flow", "log norm ≤ −κ"): 0.06,
    # a random state is not the worst one
    ("diffusion", "Lipschitz in A at a state"): 0.79,
    ("diffusion-linear", "Lipschitz in A at a state"): 0.51,
    ("implicit-flow", "Lipschitz in A at a state"): 0.45,
    ("gradient-ascent", "log norm ≤ −κ"): 0.65,
    ("gradient-ascent", "Lipschitz"): 0.75,
    ("gradient-flow", "Lipschitz"): 0.59,
    ("redescending-flow", "Lipschitz"): 0.78,
    # of an edge that moves, c changes at the neighbours too, but not by as much as at the pair
    ("mass-diffusion", "Lipschitz in A at a state"): 0.16,
    ("mass-diffusion", "Lipschitz in A"): 0.18,
    ("mass-diffusion", "Lipschitz"): 0.59,
    # A and B would have to turn the worst pair the same way
    ("volume-coupling", "log norm ≤ −κ"): 0.63,
    # the coupling counts with the structural constant of the worst state and graph
    ("coupled-flow", "log norm ≤ −κ"): 0.49,
}


@pytest.mark.parametrize("name", CERTIFIED)
def test_every_constant_times_four_fifths_is_refuted_or_known_to_be_loose(name: str) -> None:
    """A constant scaled by 0.8 (a rate by 1/0.8) is refuted if the search comes nearer to the true one than that."""
    reached: dict[str, float] = {}
    for claim, finding in verify_one(name, lambda: registry.build(name, 2), tries=700).findings:
        if claim.constant == 0:
            continue  # nothing to scale
        what = "step" if claim.kind == "step" else claim.what
        found, claimed = finding.value, claim.constant
        share = found / claimed if claimed > 0 else claimed / found  # a rate −κ < 0 is missed from above
        reached[what] = max(reached.get(what, 0.0), share)
    for what, share in reached.items():
        loose = LOOSE.get((name, what))
        if loose is None:
            assert 0.8 < share <= 1 + 1e-6, f"{what}: {share:.3f}"
        else:
            assert 0.8 * loose <= share < 0.8, f"{what}: {share:.3f}, {loose} is expected"


@pytest.mark.parametrize("name", CERTIFIED)
def test_a_longer_step_is_refuted(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    owner = type(registry.build(name, 2))
    monkeypatch.setattr(owner, "max_step", scaled(owner.max_step, 1.25))  # type: ignore[attr-defined]
    verdict = verify_one(name, lambda: registry.build(name, 2), tries=600)
    # No step contracts (0); a learned W and tanh rarely reach their bound together.
    unmoved = ("gradient-ascent", "hamiltonian-flow", "gradient-flow", "mass-diffusion", "volume-coupling")
    expected = "holds" if name in unmoved else "BROKEN"
    assert verdict.word == expected


class Conducting(Dynamics):
    """A diffusion with a learned conductivity in (0, 1), whose structural constant takes it for less."""

    norm = "linf"

    def __init__(self, share: float) -> None:
        super().__init__()
        self.conductivity = torch.nn.Parameter(torch.zeros(2))
        self.share = share
        self.inner = Diffusion(activation="tanh", mu=0.0)

    def field(self, x: Tensor, graph: Graph, *, anchor: Tensor | None = None, t: Tensor | float = 0.0) -> Tensor:
        return self.conductivity.sigmoid() * self.inner.field(x, graph)

    def rate(self, graph: Graph) -> float:
        return 0.0

    def max_step(self, graph: Graph) -> float:
        return 1.0

    def structure_lipschitz(self, graph: Graph, x: Tensor | None = None) -> float:
        return self.share * self.inner.structure_lipschitz(graph, x)


@pytest.mark.parametrize("tries", [300, 2000])
def test_a_structural_constant_that_is_too_small_is_refuted(tries: int) -> None:
    """The worst is a little weight to a node on the other side of all neighbours: random flips do not meet it."""
    for share, word in ((1.0, "holds"), (0.4, "BROKEN")):
        verdict = verify_one("conducting", lambda share=share: Conducting(share), tries=tries)  # type: ignore[misc]
        assert verdict.word == word
    assert verdict.broken[0][0].kind == "structure"


def test_the_published_adjacency_is_refuted_and_not_called_broken() -> None:
    verdict = verify_one("adjacency-published", lambda: registry.build("adjacency-published", 2), tries=2000)
    assert not verdict.certified
    assert verdict.word == "refuted"
    claim, finding = verdict.broken[0]
    assert claim.kind == "step"
    assert finding.value > 1.05
    assert int((finding.x != finding.y).sum()) <= 2  # one entry, or a symmetric pair: a flipped edge
