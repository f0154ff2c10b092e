"""Jacobians and the constants at a point."""

import pytest
import torch
from torch import Tensor

from contractive_gnn.norms import L2, LInf, Weighted, jacobian, lipschitz_at, log_norm, log_norm_at, operator_norm

LEBESGUE = ["l1", "l2", "linf"]


def curved(x: Tensor) -> Tensor:
    """Slope 5 in one narrow place, at x₀ ∈ [2, 2.2], and −1 + rotation elsewhere."""
    ramp = 6 * (x[0].clamp(2.0, 2.2) - 2.0)
    return torch.stack([ramp - x[0] + 0.5 * x[1], -x[1] - 0.5 * x[0], -x[2]])


def test_the_jacobian_and_the_constants_at_a_point() -> None:
    at = torch.tensor([2.1, 0.0, 0.0], dtype=torch.float64)
    expected = torch.tensor([[5.0, 0.5, 0.0], [-0.5, -1.0, 0.0], [0.0, 0.0, -1.0]], dtype=torch.float64)
    torch.testing.assert_close(jacobian(curved, at), expected)
    for norm in LEBESGUE:
        assert lipschitz_at(curved, at, norm=norm) == pytest.approx(float(operator_norm(expected, norm)))
        assert log_norm_at(curved, at, norm=norm) == pytest.approx(float(log_norm(expected, norm)))
    weight = torch.tensor([1.0, 9.0, 1.0])
    assert log_norm_at(curved, at, norm="linf", weight=weight) == pytest.approx(5 + 0.5 / 9)
    matrix = lipschitz_at(lambda x: 3 * x, torch.ones(2, 2), norm="l2-degree", weight=torch.tensor([1.0, 2.0]))
    assert matrix == pytest.approx(3.0)


def test_an_object_says_the_same_as_a_name() -> None:
    at, w = torch.tensor([2.1, 0.0, 0.0], dtype=torch.float64), torch.tensor([1.0, 9.0, 1.0])
    assert log_norm_at(curved, at, norm=Weighted(LInf, w)) == log_norm_at(curved, at, norm="linf", weight=w)
    assert lipschitz_at(curved, at, norm=L2) == lipschitz_at(curved, at, norm="l2")
