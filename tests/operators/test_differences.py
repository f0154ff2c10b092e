"""The weights of finite differences are those that are exact on polynomials."""

import pytest
import torch

from contractive_gnn.operators.differences import central_weights


@pytest.mark.parametrize("order", [2, 4, 6])
@pytest.mark.parametrize("derivative", [1, 2])
def test_they_are_exact_on_polynomials_up_to_their_order_and_no_further(derivative: int, order: int) -> None:
    weights = central_weights(derivative, order)
    shifts = torch.arange(-(order // 2), order // 2 + 1, dtype=torch.float64)
    for power in range(derivative + order):
        expected = {derivative: float(derivative)}.get(power, 0.0)  # m! for m = 1, 2
        assert float((weights * shifts**power).sum()) == pytest.approx(expected, abs=1e-12)
    assert abs(float((weights * shifts ** (derivative + order)).sum())) > 0.1
    assert torch.equal(weights, weights.flip(0) if derivative == 2 else -weights.flip(0))


def test_other_numbers_are_refused() -> None:
    with pytest.raises(ValueError, match="derivative must be 1 or 2, got 3"):
        central_weights(3, 2)
    with pytest.raises(ValueError, match="order must be one of 2, 4, 6, got 5"):
        central_weights(1, 5)
