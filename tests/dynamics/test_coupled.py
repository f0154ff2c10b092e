"""The coupled flow: what it needs of its parts."""

import pytest

from contractive_gnn.activations import LeakyReLU
from contractive_gnn.dynamics import AdjacencyFlow, CoupledFlow, Diffusion, GraphGradientFlow


def adjacency(**options: object) -> AdjacencyFlow:
    return AdjacencyFlow(**{"form": "l1-inside", "activation": LeakyReLU(0.2), "alpha": -1.0, **options})  # type: ignore[arg-type]


def test_parts_for_which_nothing_is_proved_are_refused() -> None:
    with pytest.raises(ValueError, match="whose constants no graph changes"):
        CoupledFlow(GraphGradientFlow(2, normalization="none"), adjacency())
    with pytest.raises(ValueError, match="with a bounded activation"):
        CoupledFlow(Diffusion(activation="identity"), adjacency())
    with pytest.raises(ValueError, match="certified in vec-l1"):
        CoupledFlow(Diffusion(), adjacency(form="published"))
    with pytest.raises(ValueError, match="does not contract"):
        CoupledFlow(Diffusion(), adjacency(alpha=0.0))
    for scale in (0.0, -1.0, float("inf")):
        with pytest.raises(ValueError, match="scale must be"):
            CoupledFlow(Diffusion(), adjacency(), scale=scale)


def test_the_default_weight_leaves_half_of_the_adjacency_s_rate() -> None:
    flow = CoupledFlow(Diffusion(mu=5.0), adjacency())
    assert flow.rate(None) == pytest.approx(0.5 * 0.2)  # type: ignore[arg-type]
