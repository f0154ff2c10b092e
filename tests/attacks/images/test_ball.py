"""The ball: exactly as large as it says, in double precision, whatever an attack returns."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from contractive_gnn.attacks.images import Ball
from contractive_gnn.attacks.images.ball import BallNorm


@given(
    norm=st.sampled_from(["l2", "linf"]),
    epsilon=st.floats(1e-6, 50),
    size=st.floats(0, 10),
    dtype=st.sampled_from([torch.float32, torch.float64]),
    seed=st.integers(0, 1000),
)
def test_whatever_comes_in_is_inside_afterwards(
    norm: BallNorm, epsilon: float, size: float, dtype: torch.dtype, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    x = torch.rand(3, 3, 16, 16, generator=generator, dtype=dtype)
    moved = x + size * torch.randn(3, 3, 16, 16, generator=generator, dtype=dtype)
    ball = Ball(norm, epsilon)
    inside = ball.inside(x, moved)
    difference = (inside.double() - x.double()).flatten(1)
    order = 2 if norm == "l2" else torch.inf
    assert float(torch.linalg.vector_norm(difference, order, dim=1).max()) <= epsilon * (1 + 1e-6)
    assert 0 <= float(inside.min()) <= float(inside.max()) <= 1
    assert inside.dtype == dtype
    assert bool(ball.holds(x, inside).all())


def test_what_is_inside_is_left_alone_and_the_edge_is_seen() -> None:
    x = torch.full((2, 1, 2, 2), 0.5, dtype=torch.float64)
    ball = Ball("l2", 0.2)
    edge = x + 0.1  # at a distance of 0.2 exactly, up to rounding
    assert torch.equal(ball.inside(x, edge), edge)
    beyond = x + 0.1 * (1 + 3e-6)
    assert not ball.holds(x, beyond).any()
    assert ball.holds(x, ball.inside(x, beyond)).all()
    assert Ball("linf", 0.1).holds(x, edge).all()
    assert not Ball("linf", 0.0999).holds(x, edge).any()
    out_of_box = torch.tensor([[[[1.0, 1.0]]]], dtype=torch.float64)
    assert not Ball("l2", 1.0).holds(out_of_box, out_of_box + 1e-12).any()


def test_what_is_no_number_becomes_the_image() -> None:
    x = torch.rand(1, 1, 2, 2)
    moved = torch.tensor([[[[torch.nan, torch.inf], [-torch.inf, 0.5]]]])
    inside = Ball("linf", 1.0).inside(x, moved)
    assert torch.equal(inside[0, 0, 0], x[0, 0, 0])
    assert float(inside[0, 0, 1, 1]) == 0.5


@pytest.mark.parametrize("epsilon", [0.0, -1.0, torch.inf, torch.nan])
def test_a_ball_has_a_radius(epsilon: float) -> None:
    with pytest.raises(ValueError, match="epsilon must be"):
        Ball("l2", epsilon)
    with pytest.raises(ValueError, match="norm must be 'l2' or 'linf', got 'l1'"):
        Ball("l1", 1.0)  # type: ignore[arg-type]
