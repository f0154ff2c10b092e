"""Weights that stay inside their condition: after every optimiser step, after loading, after copying."""

import copy
import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.utils import parametrizations as torch_parametrizations
from torch.nn.utils import parametrize

from contractive_gnn.dynamics import AdjacencyFlow
from contractive_gnn.nn import CSGNN
from contractive_gnn.nn.parametrizations import (
    AlmostOrthogonal,
    Constraint,
    Orthogonal,
    RowLogNorm,
    RowSum,
    Spectral,
    almost_orthogonal,
    check,
    fix,
    linf,
    linf_log_norm,
    orthogonal,
    require,
    spectral,
)
from contractive_gnn.norms import log_norm, operator_norm
from contractive_gnn.operators import Conv2d, Dense, Operator

Put = Callable[[nn.Module], nn.Module]

LAYERS: dict[str, Callable[[], nn.Module]] = {
    "linear": lambda: nn.Linear(6, 4),
    "square": lambda: nn.Linear(5, 5),
    "conv": lambda: nn.Conv2d(3, 4, 3, padding=1),
    "circular": lambda: nn.Conv2d(4, 2, (3, 5), padding=(1, 2), padding_mode="circular", stride=2, groups=2),
}
CASES = [
    ("spectral", "linear", lambda m: spectral(m, bound=0.9)),
    ("spectral", "square", lambda m: spectral(m)),
    ("spectral", "conv", lambda m: spectral(m, bound=0.5)),
    ("spectral", "circular", lambda m: spectral(m)),
    ("spectral tiny", "linear", lambda m: spectral(m, bound=1e-6)),
    ("almost orthogonal", "linear", lambda m: almost_orthogonal(m)),
    ("almost orthogonal", "square", lambda m: almost_orthogonal(m, bound=0.9, learn_weights=False)),
    ("almost orthogonal", "conv", lambda m: almost_orthogonal(m, bound=0.5)),
    ("almost orthogonal", "circular", lambda m: almost_orthogonal(m)),
    ("almost orthogonal tiny", "linear", lambda m: almost_orthogonal(m, bound=1e-6)),
    ("linf", "linear", lambda m: linf(m, bound=0.7)),
    ("linf", "conv", lambda m: linf(m)),
    ("linf tiny", "linear", lambda m: linf(m, bound=1e-6)),
    ("orthogonal", "square", lambda m: orthogonal(m)),
    ("orthogonal", "linear", lambda m: orthogonal(m)),
    ("log norm", "square", lambda m: linf_log_norm(m, bound=0.9)),
    ("log norm", "square", lambda m: linf_log_norm(m, bound=-0.2)),
]
EVERY = [pytest.param(LAYERS[layer], put, id=f"{name}-{layer}-{i}") for i, (name, layer, put) in enumerate(CASES)]
OPTIMISERS = [
    pytest.param(lambda p: torch.optim.SGD(p, lr=1.0), id="sgd"),
    pytest.param(lambda p: torch.optim.Adam(p, lr=0.3, weight_decay=0.1), id="adam"),
]


def sample(layer: nn.Module) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    if isinstance(layer, nn.Conv2d):
        return torch.randn(2, layer.in_channels, 6, 6, generator=generator)
    return torch.randn(7, layer.in_features, generator=generator)  # type: ignore[arg-type]


def train(layer: nn.Module, optimiser: Callable[..., torch.optim.Optimizer], each: Callable[[], None]) -> None:
    """20 steps on a random objective that pushes the outputs apart."""
    x = sample(layer).to(layer.weight.dtype)  # type: ignore[union-attr,arg-type]
    goal = torch.randn(layer(x).shape, generator=torch.Generator().manual_seed(1)).to(x)
    updates = optimiser(layer.parameters())
    for _ in range(20):
        updates.zero_grad()
        (-(goal * layer(x)).sum()).backward()
        updates.step()
        each()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("optimiser", OPTIMISERS)
@pytest.mark.parametrize(("build", "put"), EVERY)
def test_the_constraint_holds_after_every_step_and_is_missed_without_it(
    build: Callable[[], nn.Module], put: Put, optimiser: Callable[..., torch.optim.Optimizer], dtype: torch.dtype
) -> None:
    torch.manual_seed(0)
    layer, bare = put(build()).to(dtype), build().to(dtype)
    constraint = layer.parametrizations.weight[-1]  # type: ignore[union-attr,index]
    assert isinstance(constraint, Constraint)
    values: list[float] = []
    train(layer, optimiser, lambda: values.append(check(layer)["weight"]))
    assert len(values) == 20
    assert max(values) <= 0
    require(layer)
    # The same training without the parametrisation ends outside.
    train(bare, optimiser, lambda: None)
    assert constraint.violation(bare.weight) > 0.1  # type: ignore[arg-type]


@pytest.mark.parametrize(("build", "put"), EVERY)
def test_the_constraint_survives_saving_and_copying(build: Callable[[], nn.Module], put: Put) -> None:
    layer = put(build())
    train(layer, OPTIMISERS[0].values[0], lambda: None)  # type: ignore[arg-type]
    fresh = put(build())
    fresh.load_state_dict(layer.state_dict())
    twin = copy.deepcopy(layer)
    for other in (fresh, twin):
        assert check(other) == check(layer)
        torch.testing.assert_close(other.weight, layer.weight, rtol=0, atol=0)
        train(other, OPTIMISERS[0].values[0], lambda other=other: require(other))  # type: ignore[arg-type,misc]
    assert not torch.equal(twin.weight, layer.weight)  # type: ignore[arg-type]


@settings(max_examples=10)
@given(seed=st.integers(0, 2**31))
def test_the_membership_tests_are_the_norms_they_name(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(6, 6, dtype=torch.float64, generator=generator)
    assert Spectral(0.5).violation(weight) == pytest.approx(float(operator_norm(weight, "l2")) - 0.5)
    assert RowSum(0.5).violation(weight) == pytest.approx(float(operator_norm(weight, "linf")) - 0.5)
    assert RowLogNorm(0.5).violation(weight) == pytest.approx(float(log_norm(weight, "linf")) - 0.5)
    gram = weight.t() @ weight - torch.eye(6).double()
    assert Orthogonal().violation(weight) == pytest.approx(float(operator_norm(gram, "l2")))
    q, _ = torch.linalg.qr(weight)
    assert Orthogonal().violation(q) < 0 < Orthogonal().violation(1.001 * q)
    kernel = torch.randn(2, 3, 3, 3, dtype=torch.float64, generator=generator)
    conv = Spectral(0.5, kernel={"padding": 1})
    on_an_image = float(Conv2d(kernel, size=(9, 9), padding=1).norm_bound())
    assert conv.violation(kernel) >= on_an_image - 0.5


@pytest.mark.parametrize("scale", [0.0, 1e-30, 1.0, 1e12])
@pytest.mark.parametrize("bound", [1e-8, 1.0, 1e6])
def test_zero_tiny_and_huge_weights(scale: float, bound: float) -> None:
    weight = scale * torch.randn(20, 20, generator=torch.Generator().manual_seed(0))
    for constraint in (Spectral(bound), RowSum(bound), RowLogNorm(bound), RowLogNorm(-bound)):
        made = constraint(weight)
        assert bool(torch.isfinite(made).all())
        assert constraint.violation(made) <= 0
        variable = weight.clone().requires_grad_()
        constraint(variable).sum().backward()
        assert bool(torch.isfinite(variable.grad).all())  # type: ignore[arg-type]


def test_a_weight_inside_stays_and_one_on_the_edge_moves_by_the_stated_slack() -> None:
    q, _ = torch.linalg.qr(torch.randn(20, 20, generator=torch.Generator().manual_seed(0)))
    torch.testing.assert_close(Spectral(2.0)(q), q, rtol=0, atol=0)
    torch.testing.assert_close(Spectral(1.0)(q), q, rtol=40 * 1e-6 * 1.2, atol=0)
    rows = q / q.abs().sum(1, keepdim=True)
    torch.testing.assert_close(RowSum(1.1)(rows), rows, rtol=0, atol=0)
    torch.testing.assert_close(RowSum(1.0)(rows), rows, rtol=1e-5, atol=0)


@pytest.mark.parametrize("bound", [-0.3, 0.0, 0.9])
def test_every_matrix_of_small_log_norm_is_reached(bound: float) -> None:
    layer = nn.Linear(6, 6).double()
    linf_log_norm(layer, bound=bound)
    for seed in range(5):
        a = torch.randn(6, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
        a = a - (log_norm(a, "linf") - bound + 0.01 * seed) * torch.eye(6).double()
        layer.weight = a
        torch.testing.assert_close(layer.weight, a, rtol=1e-12, atol=1e-12)
        # From outside, only the diagonal of the rows that are too large moves.
        layer.weight = a + 5.0 * torch.eye(6).double()
        require(layer)
        off = ~torch.eye(6, dtype=torch.bool)
        torch.testing.assert_close(layer.weight[off], a[off])


def test_a_large_step_does_not_wear_orthogonality_away() -> None:
    """Where Cayley's map alone errs by 1e-4."""
    torch.manual_seed(0)
    bare = torch_parametrizations.orthogonal(nn.Linear(20, 20), orthogonal_map="cayley")
    layer = orthogonal(nn.Linear(20, 20))
    defects: list[float] = []
    train(bare, lambda p: torch.optim.SGD(p, lr=1e3), lambda: defects.append(Orthogonal().violation(bare.weight)))
    assert max(defects) > 1e-5
    train(layer, lambda p: torch.optim.SGD(p, lr=1e3), lambda: require(layer))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("shape", [(7, 7), (17, 5), (1, 9), (64, 64)])
def test_an_unconstrained_tensor_of_any_size_gives_an_orthogonal_weight(
    shape: tuple[int, int], dtype: torch.dtype
) -> None:
    """An odd one keeps an eigenvalue 0 while the others grow: the system behind Cayley's map loses all digits."""
    torch.manual_seed(0)
    layer = orthogonal(nn.Linear(shape[1], shape[0]).to(dtype))
    free = layer.parametrizations.weight.original  # type: ignore[union-attr,index]
    noise = torch.randn(free.shape, dtype=dtype)  # type: ignore[arg-type]
    for scale in (1.0, 1e4, 1e8, 1e16, 1e35):
        with torch.no_grad():
            free.copy_(scale * noise)  # type: ignore[operator]
        require(layer)
        free.grad = None  # type: ignore[union-attr]
        layer.weight.sum().backward()  # type: ignore[operator,union-attr]
        assert bool(torch.isfinite(free.grad).all())  # type: ignore[arg-type,union-attr]


def test_torchs_cayley_map_fails_for_a_large_tensor() -> None:
    """Why `orthogonal` scales it down; if this fails, torch has mended it."""
    torch.manual_seed(0)
    theirs = torch_parametrizations.orthogonal(nn.Linear(7, 7), orthogonal_map="cayley")
    with torch.no_grad():
        theirs.parametrizations.weight.original.normal_(std=1e10)
    assert Orthogonal().violation(theirs.weight) > 1e-3


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize(("build", "put"), EVERY)
def test_a_weight_that_is_not_finite_never_passes(build: Callable[[], nn.Module], put: Put, value: float) -> None:
    layer = put(build())
    with torch.no_grad():
        layer.parametrizations.weight.original.view(-1)[0] = value  # type: ignore[union-attr,index,operator]
    assert check(layer)["weight"] == math.inf
    with pytest.raises(ValueError, match=r"1 of 1 constraints are violated: weight by inf"):
        require(layer)
    bare = build()
    with torch.no_grad():
        bare.weight.view(-1)[0] = value  # type: ignore[union-attr,operator]
    with pytest.raises(ValueError, match="entries that are not finite"):
        put(bare)
    flow = AdjacencyFlow()
    with torch.no_grad():
        flow.k[0] = value
    assert set(check(flow).values()) == {math.inf}


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_keeps_the_constraint_or_is_refused(dtype: torch.dtype) -> None:
    weight = torch.randn(24, 24, generator=torch.Generator().manual_seed(0)).to(dtype)
    for constraint in (RowSum(1.0), RowLogNorm(0.5), RowLogNorm(-0.5)):
        assert constraint.violation(constraint(weight)) <= 0
    for refusing in (Spectral(1.0), Spectral(1.0, kernel={}), Orthogonal()):
        convolution = isinstance(refusing, Spectral) and refusing.kernel is not None
        given = weight.view(4, 4, 6, 6) if convolution else weight
        with pytest.raises(TypeError, match=f"float32 or float64, got {dtype}"):
            refusing(given)
    with pytest.raises(TypeError, match=f"float32 or float64, got {dtype}"):
        orthogonal(nn.Linear(4, 4).to(dtype))


def test_a_weight_without_full_rank_is_no_start_for_an_orthogonal_one() -> None:
    for fill in (torch.zeros(4, 3), torch.eye(4, 3).mul(torch.tensor([1.0, 0.0, 1.0]))):
        layer = nn.Linear(3, 4)
        layer.weight.data.copy_(fill)
        with pytest.raises(ValueError, match="linearly dependent"):
            orthogonal(layer)


def test_a_power_iteration_estimate_leaves_the_condition_where_the_certified_norm_does_not() -> None:
    torch.manual_seed(0)
    theirs = torch_parametrizations.spectral_norm(nn.Conv2d(3, 4, 3, padding=1))
    assert Spectral(1.0, kernel={}).violation(theirs.weight) > 0.1
    require(spectral(nn.Conv2d(3, 4, 3, padding=1)))


def test_a_circular_convolution_with_a_stride_stays_inside_on_every_size() -> None:
    for seed in range(4):
        torch.manual_seed(seed)
        layer = nn.Conv2d(1, 1, 3, stride=2, padding=1, padding_mode="circular", bias=False).double()
        layer.weight.data.abs_()
        spectral(layer)
        require(layer)
        for n in (5, 6, 7, 8):
            basis = torch.eye(n * n, dtype=torch.float64).view(-1, 1, n, n)
            assert float(operator_norm(layer(basis).flatten(1), "l2")) <= 1


def test_torchs_householder_map_does_not_survive_weight_decay() -> None:
    """Why `orthogonal` does not use it; if this fails, torch has mended it."""
    torch.manual_seed(0)
    layer = torch_parametrizations.orthogonal(nn.Linear(6, 4), orthogonal_map="householder", use_trivialization=False)
    assert Orthogonal().violation(layer.weight) <= 0
    train(layer, lambda p: torch.optim.SGD(p, lr=0.1, weight_decay=0.1), lambda: None)
    assert Orthogonal().violation(layer.weight) > 0.5


class Wrong(AdjacencyFlow):
    """A flow that takes another k₁ and twice its step."""

    def coefficients(self) -> Tensor:
        k = super().coefficients()
        return torch.cat([k[:1] + 0.1, k[1:]])

    def step_size(self) -> Tensor:
        return 2 * super().step_size()


@pytest.mark.parametrize("form", ["published", "l1-inside", "l1-outside", "max-outside"])
def test_the_adjacency_flow_is_checked_against_its_table(form: str) -> None:
    flow = AdjacencyFlow(form=form, step=100.0, alpha=-0.5)  # type: ignore[arg-type]
    optimiser = torch.optim.SGD(flow.parameters(), lr=1.0)
    for step in range(20):
        optimiser.zero_grad()
        (flow.k * torch.randn(8, generator=torch.Generator().manual_seed(step))).sum().backward()
        optimiser.step()
        found = check(flow)
        assert found.keys() == {"k1", "step"}
        assert max(found.values()) <= 0
    assert found["step"] > -1e-5  # the step asked for is far too large: the bound itself is taken
    wrong = Wrong(form=form, step=100.0)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"2 of 2 constraints are violated: k1 by .*, step by"):
        require(wrong)
    assert check(AdjacencyFlow(form="unconstrained")) == {}


def test_a_whole_model_is_walked_and_the_culprit_named() -> None:
    model = CSGNN(5, 3, hidden_channels=8, num_layers=2)
    spectral(model.decoder)
    spectral(model.encoder, bound=3.0)
    found = check(model)
    assert {"decoder.weight", "encoder.weight"} < found.keys()
    assert any(name.endswith(".k1") for name in found)
    require(model)

    # A parametrisation put behind a constraint undoes it, and is found out.
    class Double(nn.Module):
        def forward(self, weight: Tensor) -> Tensor:
            return 20 * weight

    parametrize.register_parametrization(model.decoder, "weight", Double())
    with pytest.raises(ValueError, match=r"1 of \d+ constraints are violated: decoder\.weight by"):
        require(model)
    with torch.no_grad():
        model.decoder.parametrizations.weight.original.fill_(math.inf)
    with pytest.raises(ValueError, match=r"decoder\.weight by inf"):
        require(model)


@pytest.mark.parametrize(
    ("operator", "shape"),
    [
        (Dense(nn.Parameter(torch.ones(4, 3))), (3,)),
        (Conv2d(nn.Parameter(torch.ones(3, 2, 3, 3)), padding=1), (2, 5, 5)),
        (Conv2d(nn.Parameter(torch.ones(3, 2, 3, 3)), size=(5, 5), padding=1, padding_mode="circular"), (2, 5, 5)),
    ],
    ids=["dense", "any size", "one size"],
)
def test_an_operator_is_constrained_as_a_layer_is(operator: Operator, shape: tuple[int, ...]) -> None:
    """Its own bound is the constraint's, after a step of training too; with a size, that of this size."""
    operator = spectral(copy.deepcopy(operator), bound=0.5)
    optimiser = torch.optim.SGD(operator.parameters(), lr=1.0)
    for _ in range(3):
        assert 0.499 < float(operator.norm_bound().detach()) <= 0.5
        require(operator)
        optimiser.zero_grad()
        (-operator(torch.ones(shape)).square().sum()).backward()
        optimiser.step()
    x = torch.randn(8, *shape, generator=torch.Generator().manual_seed(0))
    image, back = operator(x), operator.adjoint(operator(x))
    assert float((image * image).sum()) == pytest.approx(float((x * back).sum()), rel=1e-4)


def test_errors_say_what_was_expected() -> None:
    with pytest.raises(ValueError, match="bound must be a positive finite number, got 0"):
        spectral(nn.Linear(2, 2), bound=0)
    with pytest.raises(ValueError, match="Linear has no tensor 'wait'"):
        linf(nn.Linear(2, 2), "wait")
    with pytest.raises(ValueError, match="no shape yet"):
        spectral(nn.LazyLinear(3))
    with pytest.raises(ValueError, match="has no entries"):
        spectral(nn.Linear(0, 3))
    with pytest.raises(TypeError, match=r"nn\.Conv2d, got 'weight' of ConvTranspose2d"):
        spectral(nn.ConvTranspose2d(2, 2, 3))
    with pytest.raises(ValueError, match="padding_mode must be 'zeros' or 'circular', got 'reflect'"):
        spectral(nn.Conv2d(2, 2, 3, padding=1, padding_mode="reflect"))
    with pytest.raises(TypeError, match="square matrix"):
        linf_log_norm(nn.Linear(2, 3))
    with pytest.raises(ValueError, match="bound must be finite"):
        linf_log_norm(nn.Linear(2, 2), bound=math.nan)
    with pytest.raises(TypeError, match="must be a matrix"):
        orthogonal(nn.Conv2d(2, 2, 3))
    with pytest.raises(ValueError, match="no constraint to check"):
        require(nn.Linear(2, 2))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_orthogonal_rows_stay_and_reach_the_bound(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    rows = torch.linalg.qr(torch.randn(7, 5, dtype=dtype)).Q.t()
    kept = AlmostOrthogonal()(rows)
    torch.testing.assert_close(kept, rows, rtol=1e-4, atol=1e-5)
    norm = float(torch.linalg.matrix_norm(kept.double(), 2))
    assert 1 - 1e-4 <= norm <= 1.0
    # Without the slack for rounding the same rows are outside.
    assert float(torch.linalg.matrix_norm(kept.double() / norm * (1 + 1e-9), 2)) > 1.0


def test_more_rows_than_columns_are_scaled_by_columns() -> None:
    """30 rows in 3 dimensions cannot be orthogonal, but 3 columns are: they stay. Scaled by rows they would shrink."""
    torch.manual_seed(0)
    tall = torch.linalg.qr(torch.randn(30, 3)).Q
    torch.testing.assert_close(AlmostOrthogonal()(tall), tall, rtol=1e-4, atol=1e-5)
    by_rows = tall / (tall @ tall.t()).abs().sum(1, keepdim=True).sqrt()
    assert float(torch.linalg.svdvals(by_rows)[-1]) < 0.95


@pytest.mark.parametrize("mode", ["zeros", "circular"])
@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize(("out", "channels", "groups"), [(4, 3, 1), (2, 6, 1), (6, 2, 1), (4, 4, 2)])
def test_an_almost_orthogonal_convolution_expands_no_image(
    mode: str, stride: int, out: int, channels: int, groups: int
) -> None:
    """Trained to raise the gain, and measured by its dense matrix at sizes down to where the kernel wraps."""
    torch.manual_seed(0)
    layer = almost_orthogonal(
        nn.Conv2d(channels, out, 3, stride, padding=1, groups=groups, padding_mode=mode, bias=False)  # type: ignore[arg-type]
    )
    updates = torch.optim.Adam(layer.parameters(), lr=0.1)
    for _ in range(40):
        x = torch.randn(4, channels, 6, 6)
        updates.zero_grad()
        (-layer(x).norm() / x.norm()).backward()
        updates.step()
    twin = nn.Conv2d(channels, out, 3, stride, padding=1, groups=groups, padding_mode=mode, bias=False).double()  # type: ignore[arg-type]
    with torch.no_grad():
        twin.weight.copy_(layer.weight)
    largest = 0.0
    for size in (1, 2, 3, 5, 6):
        basis = torch.eye(channels * size**2, dtype=torch.float64).view(-1, channels, size, size)
        largest = max(largest, float(torch.linalg.matrix_norm(twin(basis).flatten(1).detach(), 2)))
    assert 0.5 < largest <= 1.0
    assert check(layer)["weight"] <= 0


@pytest.mark.parametrize("scale", [1e-30, 1.0, 1e30])
def test_the_scale_of_the_weight_does_not_matter(scale: float) -> None:
    weight = torch.randn(4, 3, 3, 3, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(AlmostOrthogonal()(scale * weight), AlmostOrthogonal()(weight), rtol=1e-5, atol=0)


def test_its_gradient_is_that_of_the_scaled_weight() -> None:
    torch.manual_seed(0)
    constraint = AlmostOrthogonal(rows=4).double()
    with torch.no_grad():
        constraint.log_q.normal_()  # type: ignore[union-attr]
    weight = torch.randn(4, 4, 3, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(constraint, weight)
    nought = torch.zeros(3, 3, requires_grad=True)
    AlmostOrthogonal()(nought).sum().backward()
    assert bool(torch.isfinite(nought.grad).all())  # type: ignore[arg-type]


def test_an_almost_orthogonal_weight_refuses_what_it_cannot_bound() -> None:
    with pytest.raises(ValueError, match="'reflect'"):
        almost_orthogonal(nn.Conv2d(2, 2, 3, padding=1, padding_mode="reflect"))
    with pytest.raises(TypeError, match="learn_weights must be"):
        almost_orthogonal(nn.Linear(2, 2), learn_weights=1)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="bound must be a positive"):
        almost_orthogonal(nn.Linear(2, 2), bound=0.0)
    with pytest.raises(TypeError, match="float16"):
        AlmostOrthogonal()(torch.ones(2, 2, dtype=torch.float16))
    layer = almost_orthogonal(nn.Linear(2, 2))
    with torch.no_grad():
        layer.parametrizations.weight.original.fill_(math.nan)  # type: ignore[union-attr,index]
    with pytest.raises(ValueError, match="not finite"):
        layer(torch.ones(1, 2))


@pytest.mark.parametrize(
    "build",
    [lambda: Dense(nn.Parameter(torch.randn(5, 4))), lambda: Conv2d(nn.Parameter(torch.randn(3, 4, 3, 3)), padding=1)],
    ids=["dense", "conv"],
)
def test_a_fixed_weight_keeps_its_bound_and_its_proof(build: Callable[[], Operator]) -> None:
    torch.manual_seed(0)
    operator = almost_orthogonal(build())
    with torch.no_grad():
        operator.parametrizations.weight[0].log_q.normal_()  # type: ignore[union-attr,index]
    twin = copy.deepcopy(operator)
    fix(twin)
    torch.testing.assert_close(twin.weight, operator.weight, rtol=0, atol=0)
    assert not twin.weight.requires_grad  # type: ignore[union-attr]
    assert 0.999 < float(twin.norm_bound()) <= 1.0
    assert float(operator.norm_bound()) == 1.0  # the class that copies share is as it was
    # The bound is that of the weight, whatever became of it.
    with torch.no_grad():
        twin.weight.mul_(3.0)  # type: ignore[union-attr,operator]
    assert float(twin.norm_bound()) == pytest.approx(3.0, rel=1e-3)
    with torch.no_grad():
        twin.weight.fill_(math.nan)  # type: ignore[union-attr,operator]
    assert float(twin.norm_bound()) == math.inf


@pytest.mark.parametrize("p", [[1.0, -1.0], [1.0, 0.0], [1.0, math.nan]])
def test_a_witness_of_both_signs_proves_nothing(p: list[float]) -> None:
    """It may have been loaded: of a matrix of ones the quotients are 0 then, and the norm is 2."""
    operator = almost_orthogonal(Dense(nn.Parameter(torch.eye(2))))
    fix(operator)
    operator.load_state_dict({"weight": torch.ones(2, 2), "witness.p": torch.tensor([p])})
    assert operator.norm_bound() == math.inf


def test_a_learned_row_weight_that_is_no_number_is_refused() -> None:
    operator = almost_orthogonal(Dense(nn.Parameter(torch.eye(2))))
    with torch.no_grad():
        operator.parametrizations["weight"][0].log_q.fill_(math.nan)  # type: ignore[index]
    with pytest.raises(ValueError, match="not finite"):
        operator(torch.ones(1, 2))


def test_fixing_other_weights_leaves_them_as_they_are() -> None:
    layer = spectral(nn.Linear(4, 3))
    weight = layer.weight.detach().clone()
    fix(layer)
    assert not parametrize.is_parametrized(layer)
    torch.testing.assert_close(layer.weight, weight, rtol=0, atol=0)
