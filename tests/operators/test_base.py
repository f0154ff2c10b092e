"""What every operator has by default, and the norms that its bounds are asked in."""

import copy
import pickle

import pytest
import torch
from torch import Tensor, nn

from contractive_gnn import operators
from contractive_gnn.dynamics import GradientFlow
from contractive_gnn.norms import L1, L2, LInf, Norm, Plain, Sum, Weighted
from contractive_gnn.operators import Composition, Conv2d, Dense, GraphGradient, Operator, Stencil
from contractive_gnn.testing.graphs import random_weighted


class Shift(Operator):
    """The least that an operator says: no weight, no lower bound."""

    def forward(self, x: Tensor) -> Tensor:
        return x.roll(1, dims=-1)

    def adjoint(self, y: Tensor) -> Tensor:
        return y.roll(-1, dims=-1)

    def norm_bound(self, norm: str | Norm = "l2") -> Tensor:
        self.family(norm)
        return torch.ones(())


def test_the_defaults_claim_nothing() -> None:
    shift = Shift()
    assert float(shift.lower_bound()) == 0.0
    assert float(shift.squared_norm_bound()) == 1.0
    assert shift.input_norm is L2
    assert not shift.weighted
    assert not shift.last_axis


@pytest.mark.parametrize(
    ("norm", "kind"), [("l1", "l1"), ("vec-linf", "linf"), (L2, "l2"), (LInf, "linf"), (Plain("vec-l1"), "l1")]
)
def test_norms_by_name_and_as_objects(norm: str | Norm, kind: str) -> None:
    assert Shift().family(norm) == kind


@pytest.mark.parametrize("norm", ["l2-degree", Weighted(L2, torch.ones(3)), Sum(LInf, L1), 2.0 * L2])
def test_a_norm_with_foreign_weights_is_refused(norm: str | Norm) -> None:
    """A bound in plain ℓ2 is none in a weighted one: moving along a graph's nodes meets other weights."""
    graph = random_weighted(5, seed=1)
    for operator in (
        Shift(),
        GraphGradient(graph),
        Stencil.laplacian((5,)),
        Conv2d(torch.ones(1, 1, 1, 1)),
        Composition(GraphGradient(graph), Dense(torch.eye(2))),
    ):
        with pytest.raises(ValueError, match=f"{type(operator).__name__} has bounds in l1, l2 and linf, not in "):
            operator.norm_bound(norm)


def test_the_bound_in_weights_by_name_holds_where_it_is_given() -> None:
    weighted = GraphGradient(random_weighted(5, seed=1), "degree")
    assert torch.equal(weighted.norm_bound("l2-degree"), weighted.norm_bound(weighted.input_norm))
    matrix = Dense(torch.randn(3, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0)))
    x = torch.randn(5, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    degrees = Weighted(L2, torch.linspace(0.1, 9.0, 5))
    assert float(degrees(matrix(x))) <= float(matrix.norm_bound("l2-degree") * degrees(x))
    with pytest.raises(ValueError, match="and in its own l2-degree, not in weighted l2"):
        weighted.norm_bound(degrees)


def test_a_weight_is_a_tensor() -> None:
    for make in (Dense, Conv2d):
        with pytest.raises(TypeError, match="weight must be a tensor, got list"):
            make([[1.0]])  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="real floating tensor"):
        Conv2d(torch.ones(1, 1, 1, 1, dtype=torch.complex64))


def test_operators_are_modules() -> None:
    operator = Composition(Dense(nn.Parameter(torch.eye(2))), Dense(torch.eye(2)))
    model = nn.Sequential(operator, nn.Tanh()).double()
    assert [name for name, _ in model.named_parameters()] == ["0.operators.0.weight"]
    assert model(torch.ones(1, 2, dtype=torch.float64)).dtype == torch.float64
    assert "Dense(2, 2)" in repr(model)


class Former(Operator):
    """Written when an operator was no module: it calls no constructor but its own."""

    def __init__(self, factor: Tensor) -> None:
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        return self.factor * x

    def adjoint(self, y: Tensor) -> Tensor:
        return self.factor * y

    def norm_bound(self, norm: str | Norm = "l2") -> Tensor:
        return self.factor.abs()


def test_an_operator_that_calls_no_constructor_is_a_module_too() -> None:
    operator = Former(torch.tensor(-2.0))
    x = torch.ones(3)
    for twin in (operator, copy.deepcopy(operator), pickle.loads(pickle.dumps(operator))):
        torch.testing.assert_close(twin(x), -2 * x)
    assert float(Composition(operator, operator).norm_bound()) == 4.0
    torch.testing.assert_close(GradientFlow(operator, "identity")(x), -4 * x)


@pytest.mark.parametrize("combine", [operators.Composition, operators.Sum])
def test_only_operators_are_combined(combine: type[operators.Composition] | type[operators.Sum]) -> None:
    dense = Dense(torch.eye(2))
    with pytest.raises(ValueError, match="at least one operator"):
        combine()
    for wrong, message in ((nn.Linear(2, 2), "write contractive_gnn.operators.Dense"), (None, "got NoneType")):
        with pytest.raises(TypeError, match=message):
            combine(dense, wrong)  # type: ignore[arg-type]
