"""The sum of fields: its constants follow from the summands', are attained, and fail beyond their condition."""

from __future__ import annotations

import math
import pickle

import pytest
import torch
from torch import Tensor, nn

from contractive_gnn.activations import Huber
from contractive_gnn.dynamics import GradientFlow, PerceptronField, SumField
from contractive_gnn.dynamics.field import VectorField
from contractive_gnn.nn.flow import Flow
from contractive_gnn.norms import L1, lipschitz_at, log_norm_at, number
from contractive_gnn.operators import Dense


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def descent(seed: int = 0, mu: float = 0.0) -> GradientFlow:
    return GradientFlow(Dense(draw(4, 3, seed=seed)), "tanh", bias=draw(4, seed=seed + 9), mu=mu)


def ascent(seed: int = 0) -> GradientFlow:
    return GradientFlow(Dense(draw(4, 3, seed=seed)), "tanh", expansive=True)


def block(seed: int = 0) -> PerceptronField:
    return PerceptronField(Dense(draw(3, 3, seed=seed)), "tanh")


SUMS = {
    "two that contract": lambda: SumField(descent(0, 0.2), descent(1, 0.7)),
    "one that contracts and two that expand": lambda: SumField(descent(0, 3.0), ascent(1), block(2)),
    "two that expand": lambda: SumField(ascent(0), block(1)),
    "one": lambda: SumField(descent(0, 0.1)),
}


@pytest.mark.parametrize("name", SUMS)
def test_its_constants_hold(name: str) -> None:
    field = SUMS[name]()
    assert field.certified
    rate, limit = number(field.rate()), number(field.max_step())
    for seed in range(6):
        x = draw(3, seed=seed) * 10.0 ** (1 - seed % 3)
        torch.testing.assert_close(field(x), sum(part(x) for part in field.parts()))
        assert log_norm_at(field, x, norm="l2") <= -rate + 1e-9
        assert lipschitz_at(field, x, norm="l2") <= number(field.field_lipschitz()) + 1e-9
        for h in (0.3 * limit, limit, 1.5 * limit, 0.05, 1.0):
            measured = lipschitz_at(lambda y, h=h: y + h * field(y), x, norm="l2")
            assert measured <= number(field.lipschitz(h)) + 1e-9
            if 0 < h <= limit:
                assert measured <= 1 - h * rate + 1e-9
                assert number(field.lipschitz(h)) <= 1 - h * rate + 1e-9


def test_the_largest_step_is_attained_and_a_longer_one_expands() -> None:
    """Two quadratics that are steep along the same axis: the sum of gradient flows is one, with the sum of bounds."""
    matrix = torch.diag(torch.tensor([2.0, 1.0], dtype=torch.float64))
    field = SumField(GradientFlow(Dense(matrix), Huber(1e9)), GradientFlow(Dense(3 * matrix), Huber(1e9)))
    h, x = number(field.max_step()), torch.tensor([1.0, 0.0], dtype=torch.float64)
    assert h == pytest.approx(2.0 / (4 + 36))
    assert lipschitz_at(lambda y: y + h * field(y), x, norm="l2") == pytest.approx(1.0)
    beyond = lipschitz_at(lambda y: y + 1.2 * h * field(y), x, norm="l2")
    assert beyond == pytest.approx(1.4)
    assert number(field.lipschitz(1.2 * h)) == pytest.approx(1.4)


def test_a_summand_that_nothing_is_known_of_leaves_nothing() -> None:
    class Unknown(VectorField):
        def forward(self, x: Tensor, t: Tensor | float = 0.0) -> Tensor:
            return x.square()

    field = SumField(descent(0, 1.0), Unknown())
    assert number(field.rate()) == -float("inf")
    assert number(field.max_step()) == 0.0
    assert number(field.lipschitz(0.1)) == float("inf")
    assert number(field.field_lipschitz()) == float("inf")
    with pytest.raises(NotImplementedError):
        SumField(Unknown()).state()
    assert field.state().shape == (4, 3)


def test_the_anchor_goes_to_those_that_have_one() -> None:
    field, x = SumField(descent(0, 0.5), ascent(1)), draw(3, seed=4)
    anchored = field.anchored(x)
    torch.testing.assert_close(anchored(x), field(x) + 0.5 * x)
    assert field.anchor_lipschitz == 0.5
    free = SumField(ascent(0), block(1))
    assert free.anchored(x) is free


def test_it_keeps_what_all_of_its_summands_keep_but_the_energy() -> None:
    def keeping(*what: str) -> VectorField:
        field = block()
        field.conserves = frozenset(what)  # type: ignore[arg-type]
        return field

    field = SumField(keeping("mass", "volume", "energy"), keeping("mass", "norm", "energy"))
    assert field.conserves == {"mass"}


def test_parts_are_the_summands_and_their_parameters_are_its_own() -> None:
    first, second = descent(0), PerceptronField(Dense(torch.nn.Parameter(draw(3, 3))))
    field = SumField(first, second)
    assert field.parts() == (first, second)
    assert len(list(field.parameters())) == 1
    x = draw(2, 3, seed=5)
    assert torch.equal(pickle.loads(pickle.dumps(field))(x), field(x))
    compiled = torch.compile(lambda y: y + 0.1 * field(y), fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(x), x + 0.1 * field(x))


def test_errors_say_what_was_expected() -> None:
    with pytest.raises(ValueError, match="at least one vector field, got none"):
        SumField()
    with pytest.raises(TypeError, match="a sum takes vector fields, got Dense"):
        SumField(Dense(draw(3, 3)))  # type: ignore[arg-type]
    other = block()
    other.norm = L1
    with pytest.raises(ValueError, match="must be declared in one norm, got l2, l1"):
        SumField(descent(), other)


class Halved(SumField):
    def forward(self, x: Tensor, t: Tensor | float = 0.0) -> Tensor:
        return super().forward(x, t) / 2


def test_a_subclass_keeps_its_class_with_another_anchor() -> None:
    field, x, anchor = Halved(descent(0, 0.2), ascent(1)), draw(2, 3), draw(2, 3, seed=1)
    bound = field.anchored(anchor)
    assert type(bound) is Halved
    torch.testing.assert_close(bound(x) - field(x), 0.1 * anchor)


def test_what_the_summands_have_learned_is_drawn_anew() -> None:
    bias = nn.Parameter(draw(4))
    SumField(GradientFlow(Dense(draw(4, 3)), "tanh", bias=bias), block()).reset_parameters()
    assert not bias.any()


class Wind(VectorField):
    """The same at every state: every step is an isometry."""

    def forward(self, x: Tensor, t: Tensor | float = 0.0) -> Tensor:
        return torch.ones_like(x)

    def rate(self) -> float:
        return 0.0

    def max_step(self) -> float:
        return math.inf


def test_a_field_with_steps_of_any_length_adds_nothing() -> None:
    assert Wind().field_lipschitz() == 0.0
    calm = SumField(Wind(), Wind())
    assert (calm.max_step(), calm.lipschitz(3.0), calm.field_lipschitz()) == (math.inf, 1.0, 0.0)
    field = descent(0, 0.2)
    for h in (0.01, number(field.max_step()), 5.0):
        assert number(SumField(Wind(), field).lipschitz(h)) == pytest.approx(number(field.lipschitz(h)))
    assert number(SumField(Wind(), field).max_step()) == pytest.approx(number(field.max_step()))
    assert number(SumField(Wind(), block()).max_step()) == 0.0
    for scheme in ("euler", "heun"):
        with pytest.raises(ValueError, match=f"every step of {scheme} contracts in l2: give step"):
            Flow(calm, scheme=scheme).step_size()
        assert Flow(calm, scheme=scheme, step=0.5, num_steps=2).lipschitz() == 1.0
    with pytest.raises(ValueError, match="has no contractive step with mass-projection"):
        Flow(calm, scheme="mass-projection", step=0.5).step_size()


def test_constants_in_two_precisions_and_as_numbers_are_added() -> None:
    single = GradientFlow(Dense(draw(4, 3).float()), "tanh", mu=0.2)
    assert number(SumField(descent(), single).max_step()) > 0
    assert number(SumField(single, block()).max_step()) == 0.0
