"""Fields tangent to spheres: what keeps the norm, what does not, and a constant rotation's constants."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from contractive_gnn.dynamics import ConstantMatrix, PerceptronMatrix, SkewField
from contractive_gnn.integrators import SCHEMES, SphereProjection
from contractive_gnn.nn import Flow
from contractive_gnn.norms import lipschitz_at, number
from contractive_gnn.testing import violations


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def learned() -> SkewField:
    torch.manual_seed(0)
    return SkewField(PerceptronMatrix(4, 8)).double()


def test_what_keeps_the_norm_says_so_and_does() -> None:
    field, x = learned(), draw(5, 4)
    kept = {name for name in SCHEMES if "norm" in SCHEMES.get(name).keeps(field)}
    assert kept == {"sphere-projection", "implicit-midpoint"}
    for scheme in (*kept, SphereProjection("rk4")):
        assert violations(field, x, of=["norm"], step=0.1, num_steps=50, scheme=scheme)["norm"] < 1e-12
    for name, least in (("euler", 1e-3), ("heun", 1e-5), ("rk4", 1e-8), ("implicit-euler", 1e-3)):
        assert violations(field, x, of=["norm"], step=0.1, num_steps=50, scheme=name)["norm"] > least


def test_the_volume_is_kept_by_a_constant_matrix_alone() -> None:
    x = draw(5, 4)
    rotation = SkewField(ConstantMatrix(draw(4, 4)))
    assert rotation.conserves == {"norm", "volume"}
    assert learned().conserves == {"norm"}
    for field, kept in ((rotation, True), (learned(), False)):
        trace = torch.func.vmap(torch.func.jacrev(field))(x).diagonal(dim1=-2, dim2=-1).sum(dim=-1)
        assert (float(trace.detach().abs().max()) < 1e-12) == kept


def test_the_constants_of_a_rotation_are_attained() -> None:
    rotation = SkewField(ConstantMatrix(torch.tensor([[0.0, 3.0], [0.0, 0.0]], dtype=torch.float64)))
    x = draw(2)
    assert rotation.rate() == 0
    assert number(rotation.field_lipschitz()) == pytest.approx(3.0)
    for h in (0.1, 2.0):
        expected = math.sqrt(1 + 9 * h**2)
        assert number(rotation.lipschitz(h)) == pytest.approx(expected)
        assert lipschitz_at(lambda y, h=h: y + h * rotation(y), x, norm="l2") == pytest.approx(expected)
    layer = Flow(rotation, step=0.5, num_steps=3, scheme="implicit-midpoint")  # of any step: nothing is cut
    assert layer.step_size() == 0.5
    assert layer.lipschitz() == 1.0
    points = draw(5, 2)
    torch.testing.assert_close(layer(points).norm(dim=-1), points.norm(dim=-1))


def test_of_a_learned_matrix_nothing_is_known() -> None:
    field = learned()
    assert field.field_lipschitz() == field.lipschitz(0.1) == -field.rate() == math.inf
    k, b = field.matrix.inner.weight[0].detach(), field.matrix.bias[0].detach()
    along = draw(4) - (draw(4) @ k) * k / (k @ k)
    steep = {
        r: lipschitz_at(field, r * along - b * k / (k @ k), norm="l2") for r in (1e2, 1e4)
    }  # a neuron at its steepest
    assert steep[1e4] > 50 * steep[1e2]


def test_a_matrix_that_is_none_is_refused() -> None:
    with pytest.raises(TypeError, match="matrix must be a StateMatrix"):
        SkewField(draw(3, 3))  # type: ignore[arg-type]
