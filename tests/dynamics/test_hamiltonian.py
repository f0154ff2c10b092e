"""The Hamiltonian flow and its two shears: what they claim, and what a symplectic scheme keeps of them."""

from typing import Any

import pytest
import torch

from contractive_gnn.dynamics import HamiltonianFlow
from contractive_gnn.dynamics.base import Dynamics
from contractive_gnn.nn import Flow
from contractive_gnn.norms import number
from contractive_gnn.testing import verify_one
from contractive_gnn.testing.graphs import random_weighted

GRAPH = random_weighted(7, seed=3)


def flow(**arguments: object) -> HamiltonianFlow:
    torch.manual_seed(0)
    return HamiltonianFlow(4, activation="group-huber", mu=0.2, **arguments).double()


def state(seed: int = 0) -> torch.Tensor:
    return torch.randn(7, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def test_its_parts_are_shears_that_sum_to_it() -> None:
    field = flow().on(GRAPH, state(1))
    parts = field.parts()
    assert all(part.shear for part in parts)
    torch.testing.assert_close(sum(part(state()) for part in parts), field(state()))
    drift, kick = (part(state()).chunk(2, dim=1) for part in parts)
    assert not bool(drift[1].any())
    assert not bool(kick[0].any())


@pytest.mark.parametrize("index", [0, 1])
def test_what_its_parts_claim_holds(index: int) -> None:
    def make() -> Dynamics:
        return HamiltonianFlow(2, mu=0.3).parts()[index]

    verdict = verify_one("part", make, tries=600)
    assert verdict.word == "holds", [(claim.what, finding.value) for claim, finding in verdict.broken]
    assert {"step", "rate", "conserved"} <= {claim.kind for claim, _ in verdict.findings}
    best = verdict.worst("step")
    assert best is not None
    assert best[0].ratio(best[1]) > 0.9


def test_the_volume_is_tried() -> None:
    verdict = verify_one("hamiltonian", lambda: HamiltonianFlow(2, mu=0.3), tries=600)
    assert verdict.word == "holds"
    assert any(claim.what.startswith("keeps the volume") for claim, _ in verdict.findings)


def test_a_symplectic_scheme_keeps_the_energy_in_a_band_and_euler_does_not() -> None:
    dynamics = flow(learn_weight=False)
    x = state()
    start = number(dynamics.energy(x, GRAPH))
    end = {}
    for scheme in ("euler", "stormer-verlet", "symplectic-euler"):
        with torch.no_grad():
            layer = Flow(dynamics.on(GRAPH), num_steps=400, step=0.1, scheme=scheme, constrained=False)
            # the anchor would be x: the flow of H pulls to the origin
            moved = layer._follow(layer.field, x, 0.1)
        end[scheme] = abs(number(dynamics.energy(moved, GRAPH)) / start - 1)
    assert end["stormer-verlet"] < 0.01
    assert end["symplectic-euler"] < 0.1
    assert end["euler"] > 1.0


def test_a_symplectic_layer_keeps_the_volume() -> None:
    layer = Flow(flow().on(GRAPH), num_steps=3, step=0.3, scheme="stormer-verlet", constrained=False)
    matrix = torch.autograd.functional.jacobian(lambda y: layer._follow(layer.field, y, 0.3), state())
    size = state().numel()
    torch.testing.assert_close(torch.linalg.det(matrix.reshape(size, size)), torch.ones((), dtype=torch.float64))


@pytest.mark.parametrize("activation", ["tanh", "huber", "leaky-relu", "group-mcp"])
@pytest.mark.parametrize("placement", ["inside", "outside"])
@pytest.mark.parametrize("normalization", ["none", "sym"])
def test_the_energy_is_that_of_the_force_with_its_anchor(activation: str, placement: Any, normalization: Any) -> None:
    generator = torch.Generator().manual_seed(0)
    dynamics = HamiltonianFlow(
        6, mu=0.3, activation=activation, placement=placement, normalization=normalization
    ).double()
    x, anchor = 3 * torch.randn(2, GRAPH.num_nodes, 6, dtype=torch.float64, generator=generator)
    slope = torch.func.grad(dynamics.energy)(x, GRAPH, anchor=anchor)
    by_q, by_p = slope.chunk(2, dim=1)
    torch.testing.assert_close(torch.cat([by_p, -by_q], dim=1), dynamics.field(x, GRAPH, anchor=anchor))
    assert abs(number(dynamics.energy(0 * x, GRAPH, anchor=anchor))) < 1e-300
