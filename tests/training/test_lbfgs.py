"""L-BFGS ends with the best weights that it has seen, however it ends."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from contractive_gnn.integrators import ConvergenceError
from contractive_gnn.training.lbfgs import Descent, descend


def weight(value: float = 1.0) -> nn.Parameter:
    return nn.Parameter(torch.tensor([value], dtype=torch.float64))


def test_a_parabola_ends_at_its_bottom() -> None:
    w = weight()
    found = descend(lambda: (w - 3).square().sum(), [w], iterations=10, history=5)
    assert float(w.detach()) == pytest.approx(3.0)
    assert found.loss == pytest.approx(0.0, abs=1e-20)
    assert 0 < found.iterations <= 10
    assert found.evaluations > found.iterations


@pytest.mark.parametrize("beyond", [math.inf, math.nan])
def test_a_loss_that_is_no_number_is_never_kept(beyond: float) -> None:
    w = weight()
    seen: list[tuple[float, float]] = []

    def loss() -> Tensor:
        value = (w - 3).square().sum() * (beyond if float(w.detach()) > 1.5 else 1.0)
        seen.append((float(value.detach()), float(w.detach())))
        return value

    found = descend(loss, [w], iterations=20, history=5)
    finite = [pair for pair in seen if math.isfinite(pair[0])]
    assert len(finite) < len(seen) == found.evaluations
    assert (found.loss, float(w.detach())) == min(finite)


def test_no_number_at_the_start_leaves_the_weights() -> None:
    w = weight()
    assert descend(lambda: math.nan * w.sum(), [w], iterations=3, history=3).loss == math.inf
    assert float(w.detach()) == 1.0


@pytest.mark.parametrize("error", [ConvergenceError, KeyboardInterrupt])
def test_what_ends_it_leaves_the_best_weights(error: type[BaseException]) -> None:
    w = weight()
    seen: list[tuple[float, float]] = []

    def loss() -> Tensor:
        if len(seen) == 3:
            raise error("no more")
        value = (w - 3).pow(4).sum()
        seen.append((float(value.detach()), float(w.detach())))
        return value

    def found() -> Descent:
        return descend(loss, [w], iterations=20, history=5)

    if error is ConvergenceError:  # an implicit scheme finds no solution with these weights
        assert found().loss == min(seen)[0]
    else:
        with pytest.raises(error):
            found()
    assert float(w.detach()) == min(seen)[1]
