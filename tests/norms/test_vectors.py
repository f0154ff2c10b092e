"""Norms and weak pairings of states, by name."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from contractive_gnn.norms import NORMS, vector_norm, weak_pairing

LEBESGUE = ["l1", "l2", "linf"]
quick = settings(max_examples=25)


def gaussian(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@quick
@given(seed=st.integers(0, 2**31), norm=st.sampled_from(LEBESGUE), weighted=st.booleans())
def test_the_weak_pairing_is_the_derivative_of_the_norm(seed: int, norm: str, weighted: bool) -> None:
    u, v = gaussian(2, 3, seed=seed), gaussian(2, 3, seed=seed + 1)
    v[0, 0] = 0.0
    v[1, 2] = -v[1, 1]  # a tie
    weight = gaussian(2, seed=seed + 2).exp() if weighted else None
    if norm == "linf":
        v[1, 1:] *= 10
    length = float(vector_norm(v, norm, weight=weight))
    h = 1e-7
    derivative = (float(vector_norm(v + h * u, norm, weight=weight)) - length) / h
    pairing = float(weak_pairing(u, v, norm, weight=weight))
    assert pairing == pytest.approx(length * derivative, rel=1e-4, abs=1e-4 * length)


def test_names_and_weights_of_states() -> None:
    x = torch.tensor([[3.0, -4.0], [0.0, 1.0]])
    assert float(vector_norm(x, "vec-l1")) == 8.0
    assert float(vector_norm(x, "vec-linf")) == 4.0
    assert float(vector_norm(x, "l2-degree", weight=torch.tensor([4.0, 1.0]))) == pytest.approx(math.sqrt(101))
    assert float(vector_norm(x, "linf", weight=torch.tensor([1.0, 5.0]))) == 5.0
    assert set(NORMS.values()) == set(LEBESGUE)
    for norm in NORMS:
        assert float(vector_norm(torch.zeros(0, 3), norm, weight=torch.ones(0))) == 0.0


@pytest.mark.parametrize("norm", LEBESGUE)
def test_weights_of_the_last_axes_leave_a_batch_alone(norm: str) -> None:
    """``[n, 1]`` weighs the nodes of ``[..., n, c]``; ``[n]`` would weigh the first axis."""
    batch, w = gaussian(3, 3, 2, seed=0), gaussian(3, seed=1).exp()
    batch[1, 2] *= 100  # its weight decides
    each = torch.stack([vector_norm(x, norm, weight=w) for x in batch])
    whole = vector_norm(batch, norm, weight=w.unsqueeze(-1))
    torch.testing.assert_close(whole, vector_norm(each, norm))
    assert float(vector_norm(batch, norm, weight=w)) != pytest.approx(float(whole))
    for shape in ((2, 1), (3, 3), (1, 3, 3, 2)):
        with pytest.raises(ValueError, match="weight must have the shape of x"):
            vector_norm(batch, norm, weight=torch.ones(shape))


def test_errors_say_what_was_expected() -> None:
    x = torch.ones(3, 2)
    with pytest.raises(ValueError, match="unknown norm 'frobenius'; expected one of l1, vec-l1"):
        vector_norm(x, "frobenius")
    with pytest.raises(ValueError, match="'l2-degree' weights every node by its degree: pass weight"):
        vector_norm(x, "l2-degree")
    with pytest.raises(
        ValueError, match=r"weight must have the shape of x, \[3, 2\], or one entry for each row, got \[2\]"
    ):
        vector_norm(x, "l2", weight=torch.ones(2))
    with pytest.raises(ValueError, match="weight must be positive and finite, got values from 0 to 1"):
        vector_norm(x, "l2", weight=torch.tensor([0.0, 1.0, 1.0]))
    with pytest.raises(ValueError, match="the same shape"):
        weak_pairing(x, x.T, "l2")
