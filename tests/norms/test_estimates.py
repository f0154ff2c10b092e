"""Estimates against the exact value, from either side."""

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from contractive_gnn.norms import (
    L1,
    L2,
    LInf,
    NormEstimate,
    Sum,
    Weighted,
    estimate_log_norm,
    estimate_norm,
    log_norm,
    operator_norm,
)

LEBESGUE = ["l1", "l2", "linf"]
quick = settings(max_examples=25)


def gaussian(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def products(a: Tensor) -> tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]:
    return lambda x: a @ x, lambda y: a.T @ y


def attained(vector: Tensor, matrix: Tensor, norm: str, *, log: bool) -> float:
    """What the vector of an estimate reaches with the matrix of the unweighted operator."""
    if norm == "l2":
        reached = vector @ matrix @ vector if log else (matrix @ vector).norm() * vector.norm()
        return float(reached / vector.square().sum())
    lines = matrix.T if norm == "l1" else matrix
    index = int(vector.abs().argmax())
    line = lines[index].abs()
    return float(line.sum() - line[index] + lines[index, index] if log else line.sum())


def check_estimates(d: int, norm: str, weighted: bool, seed: int) -> None:
    """A lower bound that its vector attains; exact in ℓ2 and wherever every column (row) is tried."""
    a = gaussian(d, d, seed=seed)
    weight = gaussian(d, seed=seed + 1).exp() if weighted else torch.ones(d, dtype=torch.float64)
    root = weight.sqrt() if norm == "l2" else weight
    matrix, like = root[:, None] * a / root, torch.zeros(d, dtype=torch.float64)
    scale = float(operator_norm(matrix, norm))
    for estimate, exact in ((estimate_norm, scale), (estimate_log_norm, float(log_norm(matrix, norm)))):
        found = estimate(*products(a), like, norm=norm, weight=weight if weighted else None)
        slack, log = 1e-9 * scale, estimate is estimate_log_norm
        assert found.value <= exact + slack
        assert found.upper >= exact - slack
        vector = found.vector * root if norm == "l2" else found.vector
        assert attained(vector, matrix, norm, log=log) == pytest.approx(found.value, abs=slack)
        if d <= 40:  # the default number of iterations
            assert exact - found.value <= (1e-6 * scale if norm == "l2" else slack)
            assert found.upper - exact <= (1e-4 * scale if norm == "l2" else slack)
        elif norm != "l2":
            assert found.upper == math.inf
            start = matrix.mean(dim=1 if norm == "l1" else 0).abs().sum()  # the even start
            assert log or found.value >= float(start) - slack


@quick
@given(
    seed=st.integers(0, 2**31), norm=st.sampled_from(LEBESGUE), weighted=st.booleans(), d=st.sampled_from([1, 2, 30])
)
def test_estimates_from_products_are_exact_where_the_iterations_suffice(
    seed: int, norm: str, weighted: bool, d: int
) -> None:
    check_estimates(d, norm, weighted, seed)


@quick
@given(seed=st.integers(0, 2**31), norm=st.sampled_from(LEBESGUE), weighted=st.booleans())
def test_estimates_from_fewer_products_are_lower_bounds_that_a_vector_attains(
    seed: int, norm: str, weighted: bool
) -> None:
    check_estimates(60, norm, weighted, seed)


def test_with_fewer_iterations_than_rows_more_than_half_may_be_missed() -> None:
    a, weight = gaussian(30, 30, seed=10230629), gaussian(30, seed=10230630).exp()
    exact = float(log_norm(a, "linf", weight=weight))
    found = [
        estimate_log_norm(*products(a), a[0], norm="linf", weight=weight, iterations=iterations)
        for iterations in (29, 30)
    ]
    assert found[0].value < exact / 2
    assert found[0].upper == math.inf
    assert found[1].value == pytest.approx(exact, rel=1e-12)
    assert found[1].upper == found[1].value


@pytest.mark.parametrize("iterations", [1, 3, 10, 60])
def test_the_stated_errors_hold_at_every_number_of_steps(iterations: int) -> None:
    """A crowded spectrum: 1, then 400 singular values just below; few steps leave a gap, which ``upper`` must cover."""
    values = torch.cat([torch.ones(1), torch.linspace(0.0, 0.99, 400)]).double()
    shifted = values - 3.0  # a negative log norm, which power iteration would miss
    for seed in range(20):
        found = estimate_norm(
            lambda x: values * x, lambda y: values * y, values, iterations=iterations, failure=1e-3, seed=seed
        )
        assert found.residual is not None
        assert found.value <= 1 + 1e-12
        assert found.upper >= 1 - 1e-12
        assert float((values - found.value).abs().min()) <= found.residual + 1e-9
        mu = estimate_log_norm(
            lambda x: shifted * x, lambda y: shifted * y, values, iterations=iterations, failure=1e-3, seed=seed
        )
        assert mu.residual is not None
        assert mu.value <= -2 + 1e-12
        assert mu.upper >= -2 - 1e-12
        assert float((shifted - mu.value).abs().min()) <= mu.residual + 1e-9
    if iterations == 1:
        assert found.value < 0.9
    if iterations == 60:
        assert found.value > 0.999
        assert found.upper < 1.05


def test_a_rectangular_operator_and_the_zero_operator() -> None:
    a = gaussian(7, 4, seed=3)
    for norm in LEBESGUE:
        found = estimate_norm(*products(a), a[0], norm=norm)
        assert found.value == pytest.approx(float(operator_norm(a, norm)), rel=1e-6)
        zero = estimate_norm(torch.zeros_like, torch.zeros_like, a, norm=norm)
        assert zero.value == 0.0
        assert estimate_log_norm(torch.zeros_like, torch.zeros_like, a, norm=norm).value == 0.0
    assert estimate_norm(torch.zeros_like, torch.zeros_like, a).upper == 0.0
    empty = a[:0]  # [0, 4]: a graph without edges has such a gradient
    for norm in LEBESGUE:
        assert estimate_norm(*products(empty), a[0], norm=norm).value == 0.0


@pytest.mark.parametrize("estimate", [estimate_norm, estimate_log_norm])
@pytest.mark.parametrize("name", LEBESGUE)
def test_an_object_says_the_same_as_a_name(name: str, estimate: Callable[..., NormEstimate]) -> None:
    a, w = gaussian(6, 6, seed=0), gaussian(6, seed=1).exp()
    norm = {"l1": L1, "l2": L2, "linf": LInf}[name]
    for by_object, by_name in (((norm, None), None), ((2.0 * norm, None), None), ((Weighted(norm, w), None), w)):
        found = estimate(*products(a), a[0], norm=by_object[0], weight=by_object[1], iterations=3)
        expected = estimate(*products(a), a[0], norm=name, weight=by_name, iterations=3)
        assert (found.value, found.upper) == (expected.value, expected.upper)
        assert torch.equal(found.vector, expected.vector)
    with pytest.raises(ValueError, match="known in l1, l2 and linf"):
        estimate(*products(a), a[0], norm=Sum(LInf, L1))


def test_errors_say_what_was_expected() -> None:
    x = torch.ones(3, 2)
    with pytest.raises(ValueError, match="iterations must be at least 1"):
        estimate_norm(lambda v: v, lambda v: v, x, iterations=0)
    with pytest.raises(ValueError, match="failure must be a probability"):
        estimate_log_norm(lambda v: v, lambda v: v, x, failure=0.0)
    with pytest.raises(ValueError, match="like must be a floating tensor"):
        estimate_norm(lambda v: v, lambda v: v, torch.ones(3, dtype=torch.long))
