"""The field of a residual block: its Lipschitz constant is attained, and a smaller one is broken."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from contractive_gnn.activations import Huber
from contractive_gnn.dynamics import PerceptronField
from contractive_gnn.graph import Graph
from contractive_gnn.norms import lipschitz_at, log_norm_at, number
from contractive_gnn.operators import Conv2d, Dense, GraphGradient


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


FIELDS: dict[str, tuple[Callable[[], PerceptronField], tuple[int, ...]]] = {
    "one layer": (lambda: PerceptronField(Dense(draw(3, 3)), "tanh", bias=draw(3, seed=1)), (3,)),
    "two layers": (lambda: PerceptronField(Dense(draw(5, 3)), "leaky-relu", outer=Dense(draw(5, 3, seed=1))), (3,)),
    "group": (lambda: PerceptronField(Dense(draw(5, 3)), "group-mcp", outer=Dense(draw(5, 3, seed=1))), (3,)),
    "convolution": (
        lambda: PerceptronField(Conv2d(draw(2, 2, 3, 3), size=(4, 4), padding=1), "huber", bias=draw(2, 1, 1, seed=1)),
        (2, 4, 4),
    ),
}


@pytest.mark.parametrize("name", FIELDS)
def test_its_constants_hold(name: str) -> None:
    make, shape = FIELDS[name]
    field = make()
    assert field.certified
    bound = number(field.field_lipschitz())
    assert number(field.rate()) == -bound
    assert field.max_step() == 0
    for seed in range(4):
        x = draw(*shape, seed=seed) * 10.0 ** (1 - seed)
        assert lipschitz_at(field, x, norm="l2") <= bound + 1e-9
        assert log_norm_at(field, x, norm="l2") <= bound + 1e-9
        for h in (0.1, 2.0):
            assert lipschitz_at(lambda y, h=h: y + h * field(y), x, norm="l2") <= number(field.lipschitz(h)) + 1e-9


def test_the_constant_is_attained_by_aligned_matrices() -> None:
    matrix = torch.diag(torch.tensor([3.0, 1.0], dtype=torch.float64))
    field = PerceptronField(Dense(matrix), "identity", outer=Dense(2 * matrix))
    x = torch.tensor([1.0, 0.0], dtype=torch.float64)
    assert number(field.field_lipschitz()) == pytest.approx(18.0)
    assert lipschitz_at(field, x, norm="l2") == pytest.approx(18.0)
    assert lipschitz_at(lambda y: y + 0.5 * field(y), x, norm="l2") == pytest.approx(number(field.lipschitz(0.5)))


def test_a_step_below_one_over_the_constant_is_invertible_and_a_longer_one_is_not() -> None:
    field = PerceptronField(Dense(-2 * torch.eye(1, dtype=torch.float64)), Huber(1.0))
    h = 0.9 / number(field.field_lipschitz())
    y = draw(50, 1)
    x = y.clone()
    for _ in range(500):  # the fixed point of x = y − hX(x), a contraction
        x = y - h * field(x)
    torch.testing.assert_close(x + h * field(x), y)
    h = 2.0 / number(field.field_lipschitz())  # x − 2x near 0: the step turns back, and two points meet
    left, right = torch.tensor([[0.0], [2.0]], dtype=torch.float64)
    assert torch.equal(left + h * field(left), torch.zeros(1).double())
    assert float(right + h * field(right)) > 0 > float(left + 0.1 + h * field(left + 0.1))


def test_batch_axes_are_many_states() -> None:
    for make, shape in FIELDS.values():
        field, x = make(), draw(2, 3, *shape)
        each = torch.stack([torch.stack([field(state) for state in row]) for row in x])
        torch.testing.assert_close(field(x), each)


def test_what_is_learned_has_a_gradient_and_survives_saving() -> None:
    field = PerceptronField(
        Dense(nn.Parameter(draw(4, 3))),
        "tanh",
        outer=Dense(nn.Parameter(draw(4, 3, seed=1))),
        bias=nn.Parameter(draw(4)),
    )
    x = draw(2, 3, seed=7)
    assert len(list(field.parameters())) == 3

    def step(x: Tensor, bias: Tensor, inner: Tensor, outer: Tensor) -> Tensor:
        moving = PerceptronField(Dense(inner), "tanh", outer=Dense(outer), bias=bias)
        return x + moving(x) / moving.field_lipschitz()

    assert torch.autograd.gradcheck(step, (x.requires_grad_(), *field.parameters()))
    for copied in (copy.deepcopy(field), pickle.loads(pickle.dumps(field))):
        assert torch.equal(copied(x), field(x))
    compiled = torch.compile(lambda y: y + 0.1 * field(y), fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(x), x + 0.1 * field(x))
    assert field.float()(x.float()).dtype == torch.float32


def test_a_random_state_has_the_shape_that_the_operator_takes() -> None:
    for make, _ in FIELDS.values():
        field = make()
        state = field.state(generator=torch.Generator().manual_seed(0))
        assert field(state).shape == state.shape


def test_errors_say_what_was_expected() -> None:
    wide = Dense(draw(2, 3))
    with pytest.raises(ValueError, match=r"a field has the shape of its state, \[3\], and this one \[2\]"):
        PerceptronField(wide)(draw(3))
    with pytest.raises(TypeError, match="outer must be an operator"):
        PerceptronField(wide, outer=nn.Linear(3, 2))  # type: ignore[arg-type]
    graph = Graph(torch.tensor([[0, 1], [1, 0]]), torch.ones(2, dtype=torch.float64), 2)
    with pytest.raises(ValueError, match="the constants here are in l2, and the adjoint of GraphGradient"):
        PerceptronField(GraphGradient(graph, "degree"), outer=GraphGradient(graph, "degree"))
