"""Fields that keep the mass: a constant that is attained, every such field, and what is refused."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from contractive_gnn.dynamics import (
    CenteredField,
    ConstantMatrix,
    Diffusion,
    GradientFlow,
    MassField,
    PerceptronField,
    PerceptronMatrix,
    StateMatrix,
    VectorField,
)
from contractive_gnn.graph import Graph
from contractive_gnn.norms import lipschitz_at, number
from contractive_gnn.operators import Dense


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


class Rows(StateMatrix):
    """``B(x) = a ⟨k, x⟩`` for a matrix a of Frobenius norm 1: as steep as it is declared."""

    def __init__(self, matrix: Tensor, direction: Tensor) -> None:
        super().__init__()
        self.matrix, self.direction, self.dim = matrix, direction, len(direction)

    def forward(self, x: Tensor) -> Tensor:
        return (x @ self.direction)[..., None, None] * self.matrix

    def lipschitz(self) -> Tensor:
        return torch.linalg.matrix_norm(self.matrix) * torch.linalg.vector_norm(self.direction)


def test_its_constant_is_attained() -> None:
    """By ``B = v1ᵀ − 1vᵀ``, the worst matrix of the proof, for v orthogonal to 1."""
    v, one = torch.tensor([1.0, -1.0, 0.0], dtype=torch.float64), torch.ones(3, dtype=torch.float64)
    field = MassField(Rows(torch.outer(v, one) - torch.outer(one, v), draw(3)))
    claimed = number(field.field_lipschitz())
    assert claimed == pytest.approx(lipschitz_at(field, draw(3, seed=1), norm="l2"))
    assert claimed == pytest.approx(math.sqrt(6) * number(field.matrix.lipschitz()))
    assert number(field.rate()) == -claimed
    assert number(field.lipschitz(0.5)) == pytest.approx(1 + claimed / 2)


class Given(StateMatrix):
    """``S/2`` of another field, ``S = (X1ᵀ − 1Xᵀ)/d``."""

    dim = 3

    def __init__(self, field: VectorField) -> None:
        super().__init__()
        self.field = field

    def forward(self, x: Tensor) -> Tensor:
        value: Tensor = self.field(x)
        return (value.unsqueeze(-1) - value.unsqueeze(-2)) / (2 * x.size(-1))


def test_every_field_that_keeps_the_mass_is_of_this_form() -> None:
    inner = PerceptronField(Dense(draw(4, 3)), "tanh", outer=Dense(draw(4, 3, seed=1)))
    centred, x = CenteredField(inner), draw(5, 3)
    torch.testing.assert_close(MassField(Given(centred))(x), centred(x))
    assert float((MassField(Given(inner))(x) - inner(x)).abs().max()) > 1e-3  # which makes mass


def test_a_centred_field_keeps_constants_and_anchors() -> None:
    flow = GradientFlow(Dense(draw(4, 3)), "tanh", mu=0.5)
    field, anchor, x = CenteredField(flow), draw(5, 3, seed=2), draw(5, 3)
    assert number(field.field_lipschitz()) == number(flow.field_lipschitz())
    assert field.anchor_lipschitz == 0.5
    value = flow.anchored(anchor)(x)
    torch.testing.assert_close(field.anchored(anchor)(x), value - value.mean(dim=-1, keepdim=True))
    plain = CenteredField(PerceptronField(Dense(draw(3, 3)), "tanh"))
    assert plain.anchored(anchor) is plain

    class Unknown(VectorField):
        def forward(self, x: Tensor, t: Tensor | float = 0.0) -> Tensor:
            return x**3

    assert CenteredField(Unknown()).rate() == -math.inf
    assert CenteredField(Unknown()).lipschitz(0.1) == math.inf


def test_a_constant_matrix_gives_a_constant_field() -> None:
    field = MassField(ConstantMatrix(draw(3, 3)))
    torch.testing.assert_close(field(draw(5, 3)), field(draw(3)).expand(5, 3))
    assert field.field_lipschitz() == 0


class Wrong(StateMatrix):
    dim = 3

    def forward(self, x: Tensor) -> Tensor:
        return x


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(TypeError, match="matrix must be a StateMatrix"):
        MassField(torch.nn.Linear(3, 9))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"has shape \[5, 3, 3\] for states of shape \[5, 3\]: Wrong gives \[5, 3\]"):
        MassField(Wrong())(draw(5, 3))
    with pytest.raises(ValueError, match=r"expected a state of shape \[..., 3\], got \[5, 4\]"):
        MassField(PerceptronMatrix(3, 4)).double()(draw(5, 4))
    with pytest.raises(ValueError, match=r"must be square, got \[2, 3\]"):
        ConstantMatrix(draw(2, 3))
    with pytest.raises(ValueError, match="width must be at least 1"):
        PerceptronMatrix(3, 0)
    with pytest.raises(TypeError, match="field must be a vector field, got Linear"):
        CenteredField(torch.nn.Linear(3, 3))  # type: ignore[arg-type]
    edges = torch.tensor([[0, 1], [1, 0]])
    x = draw(2, 3)
    with pytest.raises(ValueError, match="in l2, and those of the field in linf"):
        CenteredField(Diffusion().on(Graph.of(x, edges), x))
