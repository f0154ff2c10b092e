"""Log norms against the rules of Bullo's book, estimates against the exact value from either side."""

import math
from collections.abc import Callable
from itertools import product

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from contractive_gnn.activations import Huber
from contractive_gnn.norms import (
    NORMS,
    estimate_log_norm,
    estimate_norm,
    jacobian,
    lipschitz_adversarial,
    lipschitz_at,
    lipschitz_sampled,
    log_norm,
    log_norm_at,
    operator_norm,
    vector_norm,
    weak_pairing,
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


@pytest.mark.parametrize("norm", LEBESGUE)
@pytest.mark.parametrize("one_sided", [False, True])
def test_the_opponent_finds_what_chance_misses_and_never_more_than_there_is(norm: str, one_sided: bool) -> None:
    """In 60 dimensions a random pair sees an average; the extreme direction of a matrix is one in a multitude."""
    a = gaussian(60, 60, seed=5) / 8
    exact = float((log_norm if one_sided else operator_norm)(a, norm))
    x = torch.zeros(60, dtype=torch.float64)
    chance = lipschitz_sampled(lambda x: a @ x, x, norm=norm, one_sided=one_sided, samples=240)
    found = lipschitz_adversarial(lambda x: a @ x, x, norm=norm, one_sided=one_sided)
    assert chance.value <= exact + 1e-9
    assert found.value <= exact + 1e-9
    assert found.value > 0.9 * exact
    assert found.value >= chance.value * (1 - 1e-9)
    if norm != "l1":  # in ℓ1 a pair that differs in the right one of the 60 entries is found by chance
        assert found.value > 1.2 * chance.value
    delta = found.y - found.x
    length = float(vector_norm(delta, norm))
    if one_sided:
        assert float(weak_pairing(a @ delta, delta, norm)) / length**2 == pytest.approx(found.value)
    else:
        assert float(vector_norm(a @ delta, norm)) / length == pytest.approx(found.value)


def test_the_search_respects_the_domain() -> None:
    """On symmetric matrices A ↦ A − Aᵀ vanishes; on all matrices its ℓ2 norm is 2."""
    x = torch.zeros(4, 4, dtype=torch.float64)
    whole = lipschitz_adversarial(lambda a: a - a.T, x, norm="l2")
    symmetric = lipschitz_adversarial(lambda a: a - a.T, x, norm="l2", project=lambda a: (a + a.T) / 2)
    assert whole.value == pytest.approx(2.0)
    assert symmetric.value == 0.0
    assert torch.equal(symmetric.y, symmetric.y.T)


def test_the_opponent_copes_with_flat_maps() -> None:
    x = torch.zeros(3, dtype=torch.float64)
    assert lipschitz_adversarial(lambda x: torch.ones_like(x), x, norm="linf").value == 0.0
    assert lipschitz_adversarial(Huber(1e-9), x, norm="l2", restarts=1).value <= 1.0
    assert lipschitz_adversarial(lambda x: -2 * x, x, norm="l1", one_sided=True).value == pytest.approx(-2.0)


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
    with pytest.raises(ValueError, match=r"expected a square matrix \[..., d, d\], got shape \[3, 2\]"):
        log_norm(x, "l2")
    with pytest.raises(ValueError, match=r"weight must have shape \[2\] \(or \[2, 2\] in l2\)"):
        log_norm(torch.eye(2), "linf", weight=torch.eye(2))
    with pytest.raises(ValueError, match="symmetric positive definite"):
        log_norm(torch.eye(2), "l2", weight=-torch.eye(2))
    with pytest.raises(ValueError, match="the same shape"):
        weak_pairing(x, x.T, "l2")
    with pytest.raises(ValueError, match="iterations must be at least 1"):
        estimate_norm(lambda v: v, lambda v: v, x, iterations=0)
    with pytest.raises(ValueError, match="failure must be a probability"):
        estimate_log_norm(lambda v: v, lambda v: v, x, failure=0.0)
    with pytest.raises(ValueError, match="like must be a floating tensor"):
        estimate_norm(lambda v: v, lambda v: v, torch.ones(3, dtype=torch.long))
    with pytest.raises(ValueError, match="samples must be positive, got 0"):
        lipschitz_sampled(lambda v: v, x, norm="l2", samples=0)
    with pytest.raises(ValueError, match="x must be a floating tensor"):
        lipschitz_adversarial(lambda v: v, torch.ones(2, dtype=torch.long), norm="l2")
