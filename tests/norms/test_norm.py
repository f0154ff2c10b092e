"""Norms as objects: equality, multiples, families."""

import pytest
import torch

from contractive_gnn.integrators import SOLVERS
from contractive_gnn.norms import L1, L2, NORMS, LInf, Norm, Plain, Scaled, Sum, Weighted, family, vector_norm


@pytest.mark.parametrize("name", [name for name in NORMS if name != "l2-degree"])
def test_a_plain_norm_is_that_of_its_name(name: str) -> None:
    x = torch.tensor([[3.0, -4.0], [0.0, 1.0]])
    norm = Plain(name)
    assert torch.equal(norm(x), vector_norm(x, name))
    assert family(norm) == norm.kind == NORMS[name]
    assert str(norm) == name
    assert norm.weights(x) is None
    assert [norm == other for other in (L1, L2, LInf)] == [kind == NORMS[name] for kind in ("l1", "l2", "linf")]
    assert hash(norm) == hash({"l1": L1, "l2": L2, "linf": LInf}[NORMS[name]])


def test_plain_names_are_checked() -> None:
    with pytest.raises(ValueError, match="unknown norm 'l3'; expected one of l1"):
        Plain("l3")
    with pytest.raises(ValueError, match="pass weight"):
        Plain("l2-degree")


@pytest.mark.parametrize("norm", [L1, L2, LInf, Weighted(L1, torch.tensor([1.0, 2.0])), Sum(LInf, L1, columns=1)])
def test_a_multiple_scales_the_norm_and_nothing_else(norm: Norm) -> None:
    x, y = torch.tensor([[3.0, -4.0], [0.5, 1.0]]), torch.tensor([[1.0, 2.0], [-3.0, 0.25]])
    for twice in (2.0 * norm, norm * 2.0):
        assert isinstance(twice, Scaled)
        assert torch.equal(twice(x), 2 * norm(x))
        assert torch.equal(twice.pairing(y, x), 4 * norm.pairing(y, x))
        assert torch.equal(twice.dual(x), norm.dual(x))
        assert twice.kind == norm.kind
        assert str(twice) == f"2·{norm}"
    assert 2.0 * norm == 2.0 * norm
    assert 2.0 * norm != 3.0 * norm


def test_only_a_positive_number_makes_a_norm() -> None:
    for factor in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="factor must be"):
            factor * L1
    with pytest.raises(TypeError, match="factor must be a number"):
        "2" * L1  # type: ignore[operator]


def test_what_holds_in_every_norm_holds_in_a_sum() -> None:
    """A scheme's radius is that of the circle in an inner product, and of absolute monotonicity elsewhere."""
    composite = Sum(LInf, 0.5 * L1)
    assert family(composite) is None
    assert family(Weighted(L2, torch.ones(3))) == "l2"
    for scheme in SOLVERS.values():
        assert scheme.radius(composite) == scheme.radius("linf")  # type: ignore[arg-type]
        assert scheme.radius(3.0 * L2) == scheme.radius("l2")  # type: ignore[arg-type]


def test_what_is_no_norm_or_no_weight_is_refused() -> None:
    with pytest.raises(TypeError, match="a sum of norms is made of objects, L1, L2 or LInf say, got 'linf'"):
        Sum("linf", L1)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="weight must be a tensor, got list"):
        Weighted(L2, [1.0, 2.0])  # type: ignore[arg-type]


def test_weights_for_rows_of_one_entry_measure_a_signal_alone() -> None:
    weight, x = torch.tensor([[2.0], [3.0]]), torch.tensor([1.0, -2.0])
    assert float(Weighted(L2, weight)(x)) == pytest.approx(14**0.5)
    torch.testing.assert_close(Weighted(L2, weight).dual(x), x / weight[:, 0])
