"""The logistic curve of edge reliability: its optimum, and that it stays finite."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from contractive_gnn.nn.calibration import Calibration


def sample(edges: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    score = 2 * torch.rand(edges, generator=generator) - 1
    agreement = torch.sigmoid(-0.7 + 2.5 * score + 0.3 * torch.randn(edges, generator=generator))
    return score, agreement, torch.rand(edges, generator=generator) + 0.5


def test_it_is_the_logistic_regression() -> None:
    score, agreement, weight = sample(400)
    # an edge that is within a class with probability t counts as two: one that is, with weight t, and one that is not
    twice = np.repeat(score.double().numpy()[:, None], 2, axis=0)
    parts = (weight[:, None] * torch.stack([agreement, 1 - agreement], dim=1)).flatten().numpy()
    rows = np.hstack([np.ones_like(twice), twice])  # sklearn leaves the intercept out of its penalty
    reference = LogisticRegression(C=1.0, fit_intercept=False, tol=1e-10).fit(rows, np.tile([1, 0], 400), parts)
    np.testing.assert_allclose(Calibration.fit(score, agreement, weight), reference.coef_[0], rtol=1e-5)


def test_it_finds_the_curve_that_made_the_probabilities() -> None:
    score, _, weight = sample(20_000)
    found = Calibration.fit(score, torch.sigmoid(-0.7 + 2.5 * score), weight)
    assert found == pytest.approx((-0.7, 2.5), rel=5e-3)
    torch.testing.assert_close(found(score), torch.sigmoid(found.intercept + found.slope * score))


@pytest.mark.parametrize("weight", [1.0, 0.0])
def test_it_is_finite_where_nothing_is_in_doubt(weight: float) -> None:
    score = torch.tensor([-1.0, -0.5, 0.5, 1.0])
    curve = Calibration.fit(score, (score > 0).float(), torch.full((4,), weight))
    assert all(np.isfinite(curve))
    assert torch.equal(curve(score) > 0.5, (score > 0) & (weight > 0))
