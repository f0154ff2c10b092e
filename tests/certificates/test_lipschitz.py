"""The radius of a Lipschitz classifier: reached by a linear one, and broken just beyond."""

import math

import pytest
import torch
from torch import Tensor

from contractive_gnn.certificates.lipschitz import lipschitz_radius


@pytest.mark.parametrize("scale", [0.5, 1.0, 3.0])
def test_the_radius_is_reached_by_the_identity_and_not_beyond(scale: float) -> None:
    """``z = sx`` has the constant s, and its closest input of another class is as far as is declared."""
    x = torch.tensor([[0.9, 0.2, -0.4], [0.1, 0.0, 0.8]], dtype=torch.float64)
    radius = lipschitz_radius(scale * x, lipschitz=scale)
    order = x.argsort(dim=1, descending=True)
    direction = torch.zeros_like(x)
    direction.scatter_(1, order[:, :1], -(0.5**0.5)).scatter_(1, order[:, 1:2], 0.5**0.5)
    for factor, changed in ((1 - 1e-9, False), (1 + 1e-9, True)):
        moved = scale * (x + factor * radius[:, None] * direction)
        assert ((moved.argmax(dim=1) != x.argmax(dim=1)) == changed).all()


def test_no_random_direction_changes_a_prediction_within_the_radius() -> None:
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(4, 6, dtype=torch.float64, generator=generator)
    norm = float(torch.linalg.matrix_norm(weight, 2))

    def model(x: Tensor) -> Tensor:
        return torch.tanh(x @ weight.T)

    x = torch.randn(50, 6, dtype=torch.float64, generator=generator)
    radius = lipschitz_radius(model(x), lipschitz=norm)
    too_small = lipschitz_radius(model(x), lipschitz=norm / 100)
    broken = False
    for _ in range(200):
        direction = torch.randn(x.shape, dtype=torch.float64, generator=generator)
        direction /= direction.norm(dim=1, keepdim=True)
        assert torch.equal(model(x + radius[:, None] * direction).argmax(dim=1), model(x).argmax(dim=1))
        broken |= not torch.equal(model(x + too_small[:, None] * direction).argmax(dim=1), model(x).argmax(dim=1))
    assert broken  # a constant that is not one proves nothing


def test_ties_and_constants() -> None:
    scores = torch.tensor([[1.0, 1.0, 0.0], [2.0, 0.0, 0.0]])
    assert lipschitz_radius(scores, lipschitz=1.0).tolist() == [0.0, pytest.approx(math.sqrt(2))]
    assert lipschitz_radius(scores, lipschitz=0.0).tolist() == [0.0, math.inf]
    assert lipschitz_radius(scores[:0], lipschitz=1.0).shape == (0,)


@pytest.mark.parametrize(
    ("scores", "lipschitz", "message"),
    [
        (torch.ones(3), 1.0, r"shape \[n, classes\] with at least two classes, got torch.float32 \[3\]"),
        (torch.ones(3, 1), 1.0, "at least two classes"),
        (torch.ones(3, 2, dtype=torch.long), 1.0, "scores must be real"),
        (torch.tensor([[1.0, torch.nan]]), 1.0, "scores must be finite"),
        (torch.ones(3, 2), torch.inf, "a model without a constant has no radius"),
        (torch.ones(3, 2), -1.0, "lipschitz must be a finite number of at least 0, got -1.0"),
    ],
)
def test_what_proves_nothing_is_refused(scores: Tensor, lipschitz: float, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        lipschitz_radius(scores, lipschitz=lipschitz)
