"""The norm of features beside an adjacency matrix."""

import pickle

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from contractive_gnn.norms import L1, L2, LInf, Norm, Plain, Sum, SumNorm, vector_norm

SUMS = [Sum(LInf, 0.3 * L1), Sum(L2, L2), Sum(L1, 2.0 * LInf, columns=2), Sum(Plain("linf"), 0.7 * Plain("vec-l1"))]


def gaussian(*shape: int, seed: int) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def test_the_blocks_are_features_and_a_square_matrix() -> None:
    x = torch.tensor([[1.0, -5.0, 2.0, 3.0], [4.0, 0.0, -1.0, 0.5]])
    assert float(Sum(LInf, 0.5 * L1)(x)) == 5.0 + 0.5 * 6.5
    assert float(Sum(LInf, 0.5 * L1, columns=1)(x)) == 4.0 + 0.5 * 11.5
    assert float(Sum(LInf, 0.5 * L1)(x[:, 2:])) == 0.5 * 6.5  # no features
    assert str(Sum(LInf, 0.5 * L1)) == "linf + 0.5·l1"
    assert Sum(LInf, 0.5 * L1) == Sum(LInf, 0.5 * L1) != Sum(LInf, 0.4 * L1)


@pytest.mark.parametrize("norm", SUMS, ids=str)
@given(seed=st.integers(0, 2**31))
def test_the_weak_pairing_is_the_derivative_of_the_norm(norm: Norm, seed: int) -> None:
    u, v = gaussian(3, 5, seed=seed), gaussian(3, 5, seed=seed + 1)
    if seed % 3 == 0:
        v[:, :2] = 0.0  # a block that is 0
    if seed % 5 == 0:
        v[1, 3] = 0.0
    length, h = float(norm(v)), 1e-7
    derivative = (float(norm(v + h * u)) - length) / h
    assert float(norm.pairing(u, v)) == pytest.approx(length * derivative, rel=1e-4, abs=1e-4 * length)


@pytest.mark.parametrize("norm", SUMS, ids=str)
@given(seed=st.integers(0, 2**31))
def test_the_dual_gains_the_most(norm: Norm, seed: int) -> None:
    gradient = gaussian(3, 5, seed=seed)
    step = norm.dual(gradient)
    best = float((gradient * step).sum() / norm(step))
    for other in range(30):
        d = gaussian(3, 5, seed=seed + 1 + other)
        assert float((gradient * d).sum() / norm(d)) <= best * (1 + 1e-12)
    for index in range(15):
        unit = torch.zeros(15, dtype=torch.float64)
        unit[index] = gradient.flatten()[index].sign()
        assert float((gradient.flatten() * unit).sum() / norm(unit.view(3, 5))) <= best * (1 + 1e-12)


def test_other_states_are_refused() -> None:
    for shape in ((4,), (3, 2), (2, 3, 5)):
        with pytest.raises(ValueError, match=r"the norm linf \+ l1 takes a state \[n, c \+ n\], features beside"):
            Sum(LInf, L1)(torch.ones(shape))
    with pytest.raises(ValueError, match=r"takes a state \[n, 4 \+ k\], got shape \[3, 3\]"):
        Sum(LInf, L1, columns=4)(torch.ones(3, 3))


def test_the_old_name_says_the_new_one_and_measures_the_same() -> None:
    with pytest.warns(DeprecationWarning, match=r"Sum\(LInf, scale \* L1\)"):
        old = SumNorm("linf", "vec-l1", 0.3)
    x = gaussian(4, 7, seed=0)
    expected = vector_norm(x[:, :3], "linf") + 0.3 * vector_norm(x[:, 3:], "vec-l1")
    assert torch.equal(old(x), expected)
    assert torch.equal(Sum(LInf, 0.3 * L1)(x), expected)
    assert old.scale == 0.3
    assert isinstance(old, Sum)
    assert pickle.loads(pickle.dumps(Sum(LInf, 0.3 * L1))) == Sum(LInf, 0.3 * L1)
