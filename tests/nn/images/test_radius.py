"""Radii of pairs of scores: attained by a linear classifier, and never below those of the norm."""

import math

import pytest
import torch

from contractive_gnn.certificates import lipschitz_radius
from contractive_gnn.nn.images import pairwise_radius


@pytest.mark.parametrize("seed", range(5))
def test_of_a_linear_classifier_it_is_the_distance_to_the_boundary(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    head = torch.randn(4, 6, generator=generator, dtype=torch.float64)
    x = torch.randn(20, 6, generator=generator, dtype=torch.float64)
    scores = x @ head.t()
    radii = pairwise_radius(scores, head, lipschitz=1.0)
    predicted = scores.argmax(dim=1)
    inside, beyond = 0, 0
    for row, r, label in zip(x, radii, predicted, strict=True):
        others = [j for j in range(4) if j != label]
        towards = head[others] - head[label]
        steps = towards / towards.norm(dim=1, keepdim=True) * r
        inside += int((((row + 0.999999 * steps) @ head.t()).argmax(dim=1) == label).all())
        beyond += int((((row + 1.000001 * steps) @ head.t()).argmax(dim=1) != label).any())
    assert inside == beyond == 20


def test_it_is_never_below_the_radius_of_the_norm_and_that_for_orthonormal_rows() -> None:
    torch.manual_seed(0)
    scores, head = torch.randn(30, 5, dtype=torch.float64), torch.randn(5, 7, dtype=torch.float64)
    norm = float(torch.linalg.matrix_norm(head, 2))
    coarse = lipschitz_radius(scores, lipschitz=2.0 * norm)
    assert bool((pairwise_radius(scores, head, lipschitz=2.0) >= coarse).all())
    rows = torch.linalg.qr(head.t()).Q.t()
    torch.testing.assert_close(pairwise_radius(scores, rows, lipschitz=2.0), lipschitz_radius(scores, lipschitz=2.0))


def test_ties_and_equal_rows() -> None:
    head = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    radii = pairwise_radius(torch.tensor([[2.0, 2.0, 0.0], [2.0, 1.0, 0.0]]), head, lipschitz=1.0)
    assert radii[0] == 0.0
    # Equal rows: their scores differ by a constant, so only the third class can come before.
    assert float(radii[1]) == pytest.approx(2.0 / math.sqrt(2))
    assert float(pairwise_radius(torch.tensor([[1.0, 0.0]]), head[:2], lipschitz=1.0)) == math.inf


def test_errors_say_what_was_expected() -> None:
    scores, head = torch.zeros(2, 3), torch.zeros(3, 4)
    with pytest.raises(ValueError, match="two classes or more, got"):
        pairwise_radius(scores[:, :1], head, lipschitz=1.0)
    with pytest.raises(ValueError, match=r"\[3, features\], a row for each class, got"):
        pairwise_radius(scores, head[:2], lipschitz=1.0)
    with pytest.raises(ValueError, match="must be finite"):
        pairwise_radius(scores * math.nan, head, lipschitz=1.0)
    with pytest.raises(ValueError, match="a model without a constant has no radius"):
        pairwise_radius(scores, head, lipschitz=math.inf)
