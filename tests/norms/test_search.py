"""The opponent against chance, and against what there is."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from contractive_gnn.activations import Huber
from contractive_gnn.norms import (
    L1,
    L2,
    LInf,
    LipschitzBound,
    Norm,
    Sum,
    Weighted,
    lipschitz_adversarial,
    lipschitz_sampled,
    log_norm,
    operator_norm,
    vector_norm,
    weak_pairing,
)

LEBESGUE = ["l1", "l2", "linf"]


def gaussian(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


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


@pytest.mark.parametrize("search", [lipschitz_sampled, lipschitz_adversarial])
@pytest.mark.parametrize("one_sided", [False, True])
@pytest.mark.parametrize("name", LEBESGUE)
def test_an_object_finds_the_same_pair_as_a_name(
    name: str, one_sided: bool, search: Callable[..., LipschitzBound]
) -> None:
    a, w = gaussian(5, 5, seed=0), gaussian(5, seed=1).exp()
    norm = {"l1": L1, "l2": L2, "linf": LInf}[name]
    for by_object, weight in ((norm, None), (Weighted(norm, w), w)):
        found = search(lambda x: torch.tanh(a @ x), a[0], norm=by_object, one_sided=one_sided)
        expected = search(lambda x: torch.tanh(a @ x), a[0], norm=name, weight=weight, one_sided=one_sided)
        assert found.value == expected.value
        assert torch.equal(found.x, expected.x)
        assert torch.equal(found.y, expected.y)


@pytest.mark.parametrize("one_sided", [False, True])
def test_the_opponent_reaches_the_constant_in_a_sum_of_norms(one_sided: bool) -> None:
    """Of the map (F | A) ↦ (2F | −A) the constants are those of the larger block, whatever the factor."""
    x = gaussian(3, 5, seed=0)
    scale = torch.tensor([2.0, 2.0, -1.0, -1.0, -1.0], dtype=torch.float64)
    for norm in (Sum(LInf, 0.1 * L1), Sum(L1, 10.0 * L2), Sum(LInf, L1, columns=2)):
        found = lipschitz_adversarial(lambda x: x * scale, x, norm=norm, one_sided=one_sided)
        assert found.value <= 2.0 + 1e-12
        assert found.value == pytest.approx(2.0)
        back = lipschitz_adversarial(lambda x: -x * scale, x, norm=norm, one_sided=one_sided)
        assert back.value == pytest.approx(1.0 if one_sided else 2.0)


def test_a_norm_without_a_weak_pairing_has_no_one_sided_constant() -> None:
    class Own(Norm):
        name = "own"
        kind = None

        def __call__(self, x: Tensor) -> Tensor:
            return x.abs().max() + x.abs().sum()

        def dual(self, gradient: Tensor) -> Tensor:
            return gradient.sign()

    x = gaussian(4, seed=0)
    assert lipschitz_adversarial(lambda x: 3 * x, x, norm=Own()).value == pytest.approx(3.0)
    with pytest.raises(ValueError, match="no weak pairing is known for own"):
        lipschitz_adversarial(lambda x: 3 * x, x, norm=Own(), one_sided=True)


def test_errors_say_what_was_expected() -> None:
    x = torch.ones(3, 2)
    with pytest.raises(ValueError, match="samples must be positive, got 0"):
        lipschitz_sampled(lambda v: v, x, norm="l2", samples=0)
    with pytest.raises(ValueError, match="x must be a floating tensor"):
        lipschitz_adversarial(lambda v: v, torch.ones(2, dtype=torch.long), norm="l2")
