"""Log norms against the rules of Bullo's book, and norms of matrices."""

import math
from itertools import product

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from contractive_gnn.norms import (
    L1,
    L2,
    LInf,
    Sum,
    Weighted,
    lipschitz_adversarial,
    log_norm,
    operator_norm,
    vector_norm,
)

LEBESGUE = ["l1", "l2", "linf"]
quick = settings(max_examples=25)


def gaussian(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def random_weight(d: int, norm: str, seed: int, kind: str) -> Tensor | None:
    """No weights, one for each entry, or in ℓ2 a positive definite matrix."""
    if kind == "none":
        return None
    if kind == "matrix" and norm == "l2":
        root = gaussian(d, d, seed=seed + 1)
        return root @ root.T + 0.1 * torch.eye(d, dtype=torch.float64)
    return gaussian(d, seed=seed + 1).exp()


def size(x: Tensor, norm: str, weight: Tensor | None) -> float:
    if weight is not None and weight.dim() == 2:
        return float(x @ weight @ x) ** 0.5
    return float(vector_norm(x, norm, weight=weight))


KINDS = ["none", "diagonal", "matrix"]


cases = given(seed=st.integers(0, 2**31), norm=st.sampled_from(LEBESGUE), kind=st.sampled_from(KINDS))


@quick
@cases
def test_the_log_norm_is_the_derivative_of_the_norm_at_the_identity(seed: int, norm: str, kind: str) -> None:
    a, weight = gaussian(4, 4, seed=seed), random_weight(4, norm, seed, kind)
    mu = float(log_norm(a, norm, weight=weight))
    scale = float(operator_norm(a, norm, weight=weight))
    previous, eye = math.inf, torch.eye(4, dtype=torch.float64)
    for h in (1e-1 / scale, 1e-3 / scale, 1e-5 / scale):
        quotient = float(operator_norm(eye + h * a, norm, weight=weight) - 1) / h
        assert mu - 1e-9 * scale <= quotient <= previous + 1e-9 * scale  # decreases to μ (convexity of h ↦ ‖I + hA‖)
        previous = quotient
    assert previous == pytest.approx(mu, abs=1e-4 * scale)


@quick
@cases
def test_the_rules_of_log_norms(seed: int, norm: str, kind: str) -> None:
    a, b, weight = gaussian(4, 4, seed=seed), gaussian(4, 4, seed=seed + 2), random_weight(4, norm, seed, kind)
    eye = torch.eye(4, dtype=torch.float64)

    def mu(matrix: Tensor) -> float:
        return float(log_norm(matrix, norm, weight=weight))

    size_of_a = float(operator_norm(a, norm, weight=weight))
    slack = 1e-9 * (1 + size_of_a)
    assert mu(a + 1.7 * eye) == pytest.approx(mu(a) + 1.7, abs=slack)
    assert mu(2.5 * a) == pytest.approx(2.5 * mu(a), abs=slack)
    assert mu(a + b) <= mu(a) + mu(b) + slack + 1e-9 * abs(mu(b))
    spectral_abscissa = float(torch.linalg.eigvals(a).real.max())
    assert spectral_abscissa - slack <= mu(a) <= size_of_a + slack
    assert -mu(-a) <= spectral_abscissa + slack
    # ‖exp(A)‖ ≤ exp(μ(A)) (Dahlquist 1958)
    assert float(operator_norm(torch.linalg.matrix_exp(a), norm, weight=weight)) <= math.exp(mu(a)) * (1 + 1e-9)


@quick
@cases
def test_the_operator_norm_is_reached_and_not_exceeded(seed: int, norm: str, kind: str) -> None:
    a, weight = gaussian(3, 3, seed=seed), random_weight(3, norm, seed, kind)
    largest = float(operator_norm(a, norm, weight=weight))
    for x in gaussian(20, 3, seed=seed + 3):
        assert size(a @ x, norm, weight) <= largest * size(x, norm, weight) * (1 + 1e-9)
    if norm == "l2":
        form = torch.eye(3).double() if weight is None else weight.diag() if weight.dim() == 1 else weight
        root = torch.linalg.cholesky(form).mT  # xᵀPx = ‖Lᵀx‖²
        extremes = torch.linalg.solve(root, torch.linalg.svd(root @ a @ torch.linalg.inv(root)).Vh[0]).unsqueeze(0)
    else:
        # the corners of the unit ball
        corners = torch.tensor(list(product((-1.0, 1.0), repeat=3))) if norm == "linf" else torch.eye(3)
        extremes = corners.double() / (1.0 if weight is None else weight)
    reached = max(size(a @ x, norm, weight) / size(x, norm, weight) for x in extremes)
    assert reached == pytest.approx(largest, rel=1e-9)
    if weight is None or weight.dim() == 1:
        found = lipschitz_adversarial(lambda x: a @ x, torch.zeros(3, dtype=torch.float64), norm=norm, weight=weight)
        assert found.value <= largest * (1 + 1e-9)


def test_known_log_norms() -> None:
    a = torch.tensor([[-3.0, 1.0], [2.0, -2.0]], dtype=torch.float64)
    assert float(log_norm(a, "l1")) == -1.0
    assert float(log_norm(a, "linf")) == 0.0
    assert float(log_norm(a, "l2")) == pytest.approx(-2.5 + math.sqrt(0.25 + 1.5**2))
    for norm in LEBESGUE:
        assert float(log_norm(torch.diag(torch.tensor([-3.0, 2.0, 0.5])), norm)) == pytest.approx(2.0)
    rotation = torch.tensor([[0.0, -5.0], [5.0, 0.0]])
    assert float(log_norm(rotation, "l2")) == pytest.approx(0.0)  # skew-symmetric: no expansion in ℓ2 …
    assert float(log_norm(rotation, "linf")) == 5.0  # … and expansion in ℓ∞


@quick
@given(seed=st.integers(0, 2**31))
def test_weights_from_perron_vectors_are_optimal_for_metzler_matrices(seed: int) -> None:
    """With Mη = λη, η > 0: μ_∞ weighted by 1/η is λ, the spectral abscissa (Bullo, chapter 2)."""
    m = gaussian(4, 4, seed=seed).abs() + 0.01
    m = m - torch.diag(gaussian(4, seed=seed + 1).abs() * 5)
    values, vectors = torch.linalg.eig(m)
    top = int(values.real.argmax())
    eta, abscissa = vectors[:, top].real.abs(), float(values[top].real)
    assert float(log_norm(m, "linf", weight=1 / eta)) == pytest.approx(abscissa, abs=1e-8)
    left = torch.linalg.eig(m.T)
    left_eta = left[1][:, int(left[0].real.argmax())].real.abs()
    assert float(log_norm(m, "l1", weight=left_eta)) == pytest.approx(abscissa, abs=1e-8)
    # Without weights: the largest row sum, since a Metzler matrix has no negative entry off its diagonal.
    assert float(log_norm(m, "linf")) == pytest.approx(float(m.sum(1).max()))


def test_log_norms_of_a_batch_and_their_gradient() -> None:
    batch = gaussian(5, 3, 3, seed=0)
    for norm in LEBESGUE:
        assert log_norm(batch, norm).tolist() == pytest.approx([float(log_norm(a, norm)) for a in batch])
        assert operator_norm(batch, norm).tolist() == pytest.approx([float(operator_norm(a, norm)) for a in batch])
        assert torch.autograd.gradcheck(lambda a, norm=norm: log_norm(a, norm), gaussian(3, 3, seed=1).requires_grad_())


@pytest.mark.parametrize("name", LEBESGUE)
def test_an_object_says_the_same_as_a_name(name: str) -> None:
    a, w = gaussian(3, 3, seed=0), gaussian(3, seed=1).exp()
    norm = {"l1": L1, "l2": L2, "linf": LInf}[name]
    for of in (log_norm, operator_norm):
        assert torch.equal(of(a, norm), of(a, name))
        assert torch.equal(of(a, 3.0 * norm), of(a, name))  # a factor cancels
        assert torch.equal(of(a, Weighted(norm, w)), of(a, name, weight=w))
        assert torch.equal(of(a, norm, weight=w), of(a, name, weight=w))
        with pytest.raises(ValueError, match="known in l1, l2 and linf, weighted or not, got the norm linf \\+ l1"):
            of(a, Sum(LInf, L1))
        with pytest.raises(ValueError, match="has its own weights: pass weight=None"):
            of(a, Weighted(norm, w), weight=w)


def test_errors_say_what_was_expected() -> None:
    x = torch.ones(3, 2)
    with pytest.raises(ValueError, match=r"expected a square matrix \[..., d, d\], got shape \[3, 2\]"):
        log_norm(x, "l2")
    with pytest.raises(ValueError, match=r"weight must have shape \[2\] \(or \[2, 2\] in l2\)"):
        log_norm(torch.eye(2), "linf", weight=torch.eye(2))
    with pytest.raises(ValueError, match="symmetric positive definite"):
        log_norm(torch.eye(2), "l2", weight=-torch.eye(2))
