"""The gradient flow of an operator: one proof for vectors, images and graphs, tried at its edge and beyond it."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from contractive_gnn.activations import Activation, GroupHuber, Huber, LeakyReLU, activation
from contractive_gnn.dynamics import GradientAscent, GradientFlow, GraphGradientFlow
from contractive_gnn.graph import Graph
from contractive_gnn.nn.flow import Flow
from contractive_gnn.norms import L2, log_norm_at, number
from contractive_gnn.operators import Composition, Conv2d, Dense, GraphGradient, Operator, Stencil


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def ring(n: int) -> Graph:
    """A cycle of even length: bipartite with equal degrees, so the bounds of its gradient are attained."""
    ends = torch.arange(n)
    pairs = torch.stack([ends, (ends + 1) % n])
    return Graph(torch.cat([pairs, pairs.flip(0)], dim=1), torch.ones(2 * n, dtype=torch.float64), n)


OPERATORS: dict[str, tuple[Callable[[], Operator], tuple[int, ...]]] = {
    "tall matrix": (lambda: Dense(draw(5, 3)), (3,)),
    "wide matrix": (lambda: Dense(draw(2, 3)), (3,)),
    "circular convolution": (
        lambda: Conv2d(draw(4, 2, 3, 3), size=(6, 6), padding=1, padding_mode="circular"),
        (2, 6, 6),
    ),
    "zero padding": (lambda: Conv2d(draw(3, 2, 3, 3), size=(5, 5), padding=1), (2, 5, 5)),
    "stride 2": (lambda: Conv2d(draw(4, 2, 2, 2), size=(6, 6), stride=2), (2, 6, 6)),
    "differences on a grid": (lambda: Stencil.gradient((4, 6), spacing=0.5).double(), (4, 6)),
    "graph": (lambda: GraphGradient(ring(6)), (6, 2)),
    "graph, sym": (lambda: GraphGradient(ring(6), "sym"), (6, 2)),
    "graph, degree": (lambda: GraphGradient(ring(6), "degree"), (6, 2)),
    "graph after a matrix": (lambda: Composition(GraphGradient(ring(6), "degree"), Dense(draw(3, 2))), (6, 2)),
}
BATCHES: tuple[tuple[int, ...], ...] = ((), (2,), (2, 1, 3))


def ratio(flow: GradientFlow, h: float, x: Tensor, y: Tensor) -> float:
    with torch.no_grad():
        return float(flow.norm(x + h * flow(x) - y - h * flow(y)) / flow.norm(x - y))


@pytest.mark.parametrize("batch", BATCHES)
@pytest.mark.parametrize("name", OPERATORS)
def test_the_field_is_minus_the_gradient_of_its_potential(name: str, batch: tuple[int, ...]) -> None:
    make, shape = OPERATORS[name]
    operator, sigma = make(), activation("huber", threshold=0.7)
    x, anchor = draw(*batch, *shape, seed=1).requires_grad_(), draw(*shape, seed=2)
    flow = GradientFlow(operator, sigma, mu=0.3, anchor=anchor)
    potential = sigma.potential(operator(x)).sum()
    (gradient,) = torch.autograd.grad(potential, x)
    if flow.norm != L2:  # the gradient of the weighted inner product
        gradient = gradient / operator.input_norm.weight  # type: ignore[attr-defined]
    torch.testing.assert_close(flow(x), -gradient - 0.3 * (x - anchor))


@pytest.mark.parametrize("sigma", ["identity", "tanh", "leaky-relu", "huber", "firm", "group-huber", "group-scad"])
@pytest.mark.parametrize("expansive", [False, True])
@pytest.mark.parametrize("name", OPERATORS)
def test_the_jacobian_has_its_eigenvalues_where_the_proof_says(name: str, expansive: bool, sigma: str) -> None:
    make, shape = OPERATORS[name]
    if activation(sigma).group and name == "differences on a grid":
        return  # it has no channels, and is refused: see below
    flow = GradientFlow(make(), sigma, mu=0.2, expansive=expansive)
    weight = flow.norm.weight.squeeze(-1) if flow.norm != L2 else None  # type: ignore[attr-defined]
    least, most = (number(end) for end in flow.spectrum())
    for seed in range(3):
        x = draw(*shape, seed=seed) * 10.0 ** (1 - seed)
        assert -log_norm_at(flow, x, norm="l2-degree" if weight is not None else "l2", weight=weight) >= least - 1e-9
        jacobian = torch.autograd.functional.jacobian(flow, x).reshape(x.numel(), x.numel())
        if weight is not None:
            root = weight.sqrt().repeat_interleave(x.size(-1))
            jacobian = root[:, None] * jacobian / root
        torch.testing.assert_close(jacobian, jacobian.T, atol=1e-9, rtol=0)
        eigenvalues = torch.linalg.eigvalsh(-jacobian)
        assert eigenvalues[0] >= least - 1e-9
        assert eigenvalues[-1] <= most + 1e-9
        assert torch.linalg.matrix_norm(jacobian, 2) <= flow.field_lipschitz() + 1e-9


@pytest.mark.parametrize("sigma", ["identity", "tanh", "leaky-relu", "group-huber"])
@pytest.mark.parametrize("name", OPERATORS)
@settings(deadline=None, max_examples=8)
@given(seed=st.integers(0, 2**31), mu=st.sampled_from([0.0, 0.5]))
def test_the_step_contracts_at_the_edge_of_its_condition(name: str, sigma: str, seed: int, mu: float) -> None:
    make, shape = OPERATORS[name]
    if activation(sigma).group and name == "differences on a grid":
        return
    flow = GradientFlow(make(), sigma, mu=mu)
    assert flow.certified
    batch = (2,) if flow.norm == L2 else ()
    h, x = float(flow.max_step()), draw(*batch, *shape, seed=seed)
    y = x + draw(*batch, *shape, seed=seed + 1) * 10 ** float(draw(1, seed=seed + 2))
    for share in (1.0, 0.6):
        assert ratio(flow, share * h, x, y) <= 1 - share * h * number(flow.rate()) + 1e-12
    assert ratio(flow, 1.7 * h, x, y) <= float(flow.lipschitz(1.7 * h)) + 1e-12


def top(operator: Operator, shape: tuple[int, ...]) -> Tensor:
    """The state that A stretches most, by power iteration."""
    x = draw(*shape, seed=5)
    for _ in range(3000):
        x = operator.adjoint(operator(x))
        x = x / x.norm()
    return x


SHARP = ["tall matrix", "wide matrix", "circular convolution", "differences on a grid", "graph"]


@pytest.mark.parametrize("name", SHARP)
def test_the_step_expands_beyond_its_condition(name: str) -> None:
    make, shape = OPERATORS[name]
    operator = make()
    # A clip far away is monotone, and nothing more is known of it: the rate is 0.
    flow, x = GradientFlow(operator, Huber(1e9)), top(operator, shape)
    h = 2.0 / float(operator(x).norm() / x.norm()) ** 2
    # The bound of ‖A‖² is attained where this one is the flow's own.
    assert float(flow.max_step()) == pytest.approx(h, rel=1e-6)
    assert ratio(flow, float(flow.max_step()), x, -x) == pytest.approx(1.0, abs=1e-6)
    assert ratio(flow, 1.2 * float(flow.max_step()), x, -x) > 1.39
    assert ratio(flow, 1.2 * h, x, -x) == pytest.approx(float(flow.lipschitz(1.2 * h)), rel=1e-6)


@pytest.mark.parametrize("name", SHARP)
def test_the_ascent_expands_as_fast_as_it_says(name: str) -> None:
    make, shape = OPERATORS[name]
    operator = make()
    flow, x = GradientFlow(operator, "identity", expansive=True), top(operator, shape)
    assert flow.max_step() == 0
    assert number(flow.rate()) == pytest.approx(-float(flow.smoothness()))
    for h in (0.1, 3.0):
        assert ratio(flow, h, x, -x) == pytest.approx(1 + h * float(flow.smoothness()), rel=1e-6)
        assert float(flow.lipschitz(h)) == pytest.approx(1 + h * float(flow.smoothness()))


def test_an_ascent_that_the_fidelity_outweighs_contracts() -> None:
    flow = GradientFlow(Dense(torch.eye(2, dtype=torch.float64)), "tanh", mu=3.0, expansive=True)
    assert number(flow.rate()) == pytest.approx(2.0)
    h, x = float(flow.max_step()), 1e-5 * torch.ones(2, dtype=torch.float64)
    assert h == pytest.approx(2.0 / (2.0 + 3.0))
    assert ratio(flow, h, x, -x) <= 1 - 2 * h + 1e-9
    far = 1e5 * torch.ones(2, dtype=torch.float64)  # where tanh is flat the fidelity acts alone
    assert ratio(flow, 1.2 * h, far, 2 * far) <= float(flow.lipschitz(1.2 * h)) + 1e-12


def test_a_lower_bound_of_the_operator_makes_a_strongly_monotone_activation_contract() -> None:
    matrix = torch.diag(torch.tensor([3.0, 0.5], dtype=torch.float64))
    flow = GradientFlow(Dense(matrix), LeakyReLU(0.2))
    assert number(flow.rate()) == pytest.approx(0.2 * 0.25, rel=1e-9)
    h = float(flow.max_step())
    assert h == pytest.approx(2.0 / (9.0 + 0.05))
    x, y = torch.tensor([[0.0, -1.0], [0.0, -2.0]], dtype=torch.float64)  # along the slowest direction
    assert ratio(flow, h, x, y) == pytest.approx(1 - 0.05 * h)
    # A wide matrix has a kernel, which nothing moves along: no rate is claimed, and none is there.
    wide = GradientFlow(Dense(matrix[:1]), LeakyReLU(0.2))
    assert number(wide.rate()) == 0.0
    assert ratio(wide, h, x, y) == 1.0


class Steeper(Activation):
    """It says that its slopes are at most 1, and has slope 3."""

    slopes = (0.0, 1.0)

    def forward(self, d: Tensor) -> Tensor:
        return 3 * d


def test_slopes_outside_of_the_declared_interval_break_the_condition() -> None:
    flow = GradientFlow(Dense(torch.eye(2, dtype=torch.float64)), Steeper())
    assert not flow.certified  # no one here proved what it declares
    assert ratio(flow, float(flow.max_step()), draw(2), draw(2, seed=1)) == pytest.approx(5.0)


class Doubled(Operator):
    """It doubles, and says that its norm is 1."""

    def forward(self, x: Tensor) -> Tensor:
        return 2 * x

    def adjoint(self, y: Tensor) -> Tensor:
        return 2 * y

    def norm_bound(self, norm: object = "l2") -> Tensor:
        return torch.ones((), dtype=torch.float64)


def test_an_operator_from_outside_is_not_certified_by_us() -> None:
    flow = GradientFlow(Composition(Dense(torch.eye(2, dtype=torch.float64)), Doubled()), "identity")
    assert not flow.certified
    assert ratio(flow, float(flow.max_step()), draw(2), draw(2, seed=1)) > 1


def test_a_redescending_activation_expands_until_the_fidelity_outweighs_it() -> None:
    for mu, contracts in ((0.5, False), (2.5, True)):
        flow = GradientFlow(Dense(torch.eye(2, dtype=torch.float64)), "mcp", mu=mu)
        assert number(flow.rate()) == pytest.approx(mu - 1.0)
        assert (float(flow.max_step()) > 0) is contracts
        x = torch.full((2,), 3.9, dtype=torch.float64)  # where the slope is near −1
        for h in (0.1, 0.4):
            assert ratio(flow, h, x, x - 1e-4) == pytest.approx(1 - h * (mu - 1), abs=0.06 * h)


@pytest.mark.parametrize("name", [name for name in OPERATORS if "graph" not in name])
def test_a_batch_is_many_states(name: str) -> None:
    make, shape = OPERATORS[name]
    sigma = "huber" if name == "differences on a grid" else "group-huber"
    flow = GradientFlow(make(), sigma, mu=0.1, anchor=draw(*shape, seed=9))
    x = draw(2, 3, *shape)
    each = torch.stack([torch.stack([flow(state) for state in row]) for row in x])
    torch.testing.assert_close(flow(x), each)


def test_a_group_activation_acts_on_the_channels() -> None:
    kernel = torch.zeros(2, 2, 1, 1, dtype=torch.float64)
    kernel[0, 0] = kernel[1, 1] = 1.0
    image = torch.tensor([3.0, 4.0], dtype=torch.float64)[:, None, None].expand(2, 2, 5)
    flow = GradientFlow(Conv2d(kernel, size=(2, 5)), GroupHuber(1.0))
    torch.testing.assert_close(flow(image), -image / 5)
    torch.testing.assert_close(
        GradientFlow(Dense(torch.eye(2).double()), GroupHuber(1.0))(image[:, 0, 0]), -image[:, 0, 0] / 5
    )


def test_a_bias_shifts_what_the_activation_sees() -> None:
    weight, bias = draw(3, 2), draw(3, seed=4)
    flow = GradientFlow(Dense(weight), "tanh", bias=bias)
    x = draw(5, 2)
    torch.testing.assert_close(flow(x), -torch.tanh(x @ weight.T + bias) @ weight)
    with pytest.raises(ValueError, match=r"bias must broadcast to the shape of Ax, \[5, 3\], got \[4\]"):
        GradientFlow(Dense(weight), "tanh", bias=draw(4))(x)
    with pytest.raises(ValueError, match=r"bias must broadcast to the shape of Ax, \[3\], got \[5, 3\]"):
        GradientFlow(Dense(weight), "tanh", bias=draw(5, 3))(draw(2))


def test_the_anchor_is_where_the_fidelity_rests() -> None:
    flow = GradientFlow(Dense(torch.zeros(1, 2, dtype=torch.float64)), "tanh", mu=2.0)
    x = draw(4, 2)
    torch.testing.assert_close(flow(x), -2 * x)
    assert flow.anchored(x)(x).abs().max() == 0
    assert flow.anchored(x).operator is flow.operator
    assert flow.anchor_lipschitz == 2.0
    free = GradientFlow(flow.operator, "tanh")
    assert free.anchored(x) is free
    assert free.anchor_lipschitz == 0.0
    with pytest.raises(ValueError, match=r"anchor must broadcast to the shape of the state, \[2\], got \[4, 2\]"):
        flow.anchored(x)(x[0])


def learned(dtype: torch.dtype = torch.float64) -> GradientFlow:
    return GradientFlow(
        Dense(nn.Parameter(draw(4, 3).to(dtype))), LeakyReLU(0.3), bias=nn.Parameter(draw(4, seed=3).to(dtype)), mu=0.2
    )


def test_what_is_learned_has_a_gradient_in_the_field_and_in_the_step() -> None:
    flow = learned()
    assert [name for name, _ in flow.named_parameters()] == ["layer.bias", "layer.operator.weight"]
    x, anchor = draw(2, 3, seed=7).requires_grad_(), draw(2, 3, seed=8).requires_grad_()

    def step(x: Tensor, anchor: Tensor, bias: Tensor, weight: Tensor) -> Tensor:
        field = GradientFlow(Dense(weight), LeakyReLU(0.3), bias=bias, mu=0.2, anchor=anchor)
        return x + field.max_step() * field(x)

    assert torch.autograd.gradcheck(step, (x, anchor, *flow.parameters()))
    for parameter in flow.parameters():
        assert torch.autograd.grad(flow(x).square().sum(), parameter)[0].abs().max() > 0


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_it_stays_in_its_precision_and_survives_saving(dtype: torch.dtype) -> None:
    flow = learned(dtype)
    x = draw(2, 3, seed=7).to(dtype)
    assert flow(x).dtype == dtype
    assert flow.max_step().dtype == dtype
    for copied in (copy.deepcopy(flow), pickle.loads(pickle.dumps(flow))):
        assert isinstance(copied, GradientFlow)
        assert torch.equal(copied(x), flow(x))
    other = learned(dtype)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.mul_(2)
    assert not torch.equal(other(x), flow(x))
    other.load_state_dict(flow.state_dict())
    assert torch.equal(other(x), flow(x))
    assert flow.double()(x.double()).dtype == torch.float64


@pytest.mark.parametrize("anchored", [False, True])
def test_it_compiles_in_one_graph(anchored: bool) -> None:
    flow, x = learned(), draw(2, 3, seed=7)

    def step(y: Tensor) -> Tensor:
        field = flow.anchored(x) if anchored else flow
        return y + field.max_step() * field(y)

    torch.testing.assert_close(torch.compile(step, fullgraph=True, backend="aot_eager")(x + 1), step(x + 1))


def test_a_learned_bias_is_drawn_anew_with_the_rest() -> None:
    flow = learned()
    flow.reset_parameters()
    assert flow.bias is not None
    assert torch.equal(flow.bias, torch.zeros_like(flow.bias))


def test_a_random_state_has_the_shape_that_the_operator_takes() -> None:
    for make, _ in OPERATORS.values():
        flow = GradientFlow(make(), "tanh", mu=0.1)
        state = flow.state(generator=torch.Generator().manual_seed(0))
        assert state.dtype == torch.float64
        assert flow(state).shape == state.shape


def test_errors_say_what_was_expected() -> None:
    matrix = Dense(draw(2, 2))
    with pytest.raises(
        TypeError, match=r"got torch.nn.Conv2d: write contractive_gnn.operators.Conv2d\(module.weight\)"
    ):
        GradientFlow(nn.Conv2d(1, 1, 3), "tanh")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"operator must be an operator of contractive_gnn\.operators, got str"):
        GradientFlow("tanh", matrix)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="mu must be at least 0"):
        GradientFlow(matrix, "tanh", mu=-1.0)
    with pytest.raises(TypeError, match="expansive must be True or False"):
        GradientFlow(matrix, "tanh", expansive=1)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="bias must be a tensor"):
        GradientFlow(matrix, "tanh", bias=0.5)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="anchor must be a tensor of real numbers"):
        GradientFlow(matrix, "tanh", anchor=0.5)  # type: ignore[arg-type]
    for without in (Doubled(), Stencil.laplacian((4, 4))):
        with pytest.raises(ValueError, match="acts on rows of channels, and which axis of the output of"):
            GradientFlow(without, "group-huber")
    with pytest.raises(ValueError, match=r"axis -1 of the output of GraphGradient, which has shape \[6\] here"):
        GradientFlow(GraphGradient(ring(6)), "group-huber")(draw(6))
    steep = Huber()
    steep.slopes = (0.0, float("inf"))
    with pytest.raises(ValueError, match=r"an interval \(s_min, s_max\) of finite numbers, got \(0.0, inf\)"):
        GradientFlow(matrix, steep)


def test_the_old_call_gives_the_graph_flow_and_says_so() -> None:
    with pytest.warns(DeprecationWarning, match=r"GradientFlow\(channels, ...\) is now GraphGradientFlow"):
        flow = GradientFlow(4, sigma="huber", weight=False)
    assert type(flow) is GraphGradientFlow
    assert flow.channels == 4
    with pytest.warns(DeprecationWarning, match="GraphGradientFlow"):
        assert type(GradientFlow(channels=3)) is GraphGradientFlow
    with (
        pytest.warns(DeprecationWarning, match="GraphGradientFlow"),
        pytest.raises(TypeError, match="weight says whether a matrix W is learned"),
    ):
        GradientFlow(4, weight=nn.Conv2d(4, 4, 3))

    class Own(GradientFlow):
        pass

    with pytest.raises(TypeError, match="on so many channels, is GraphGradientFlow"):
        Own(4)  # type: ignore[arg-type]


PLACEMENTS, NORMALIZATIONS = ("inside", "outside"), ("none", "sym", "degree")


@pytest.mark.parametrize("sigma", ["tanh", "leaky-relu", "group-mcp"])
@pytest.mark.parametrize("weight", [True, False])
@pytest.mark.parametrize("normalization", NORMALIZATIONS)
@pytest.mark.parametrize("placement", PLACEMENTS)
def test_the_flow_of_a_graph_is_the_gradient_flow_of_its_operator(
    placement: str, normalization: str, weight: bool, sigma: str
) -> None:
    generator = torch.Generator().manual_seed(3)
    upper = torch.triu(torch.rand(7, 7, generator=generator) < 0.5, diagonal=1).nonzero().T
    values = torch.rand(upper.size(1), dtype=torch.float64, generator=generator) * 2
    values[0] = 0.0  # a pair that is listed, and is no edge
    graph = Graph(torch.cat([upper, upper.flip(0)], dim=1), torch.cat([values, values]), 7)
    on_graph = GraphGradientFlow(
        3,
        activation=sigma,
        placement=placement,
        normalization=normalization,
        learn_weight=weight,
        mu=0.4,  # type: ignore[arg-type]
    ).double()
    x, anchor = draw(7, 3), draw(7, 3, seed=1)
    field = on_graph.on(graph, anchor)
    flow = field.gradient_flow()
    assert flow.operator.norm_bound() <= flow.operator.squared_norm_bound().sqrt() * (1 + 1e-12)
    torch.testing.assert_close(flow(x), field(x))
    torch.testing.assert_close(flow.anchored(x)(x), field.anchored(x)(x))
    assert type(field.anchored(x)) is type(field)
    torch.testing.assert_close(flow.smoothness(), torch.as_tensor(on_graph.smoothness(graph)))
    for mine, theirs in (
        (flow.rate(), on_graph.rate(graph)),
        (flow.max_step(), on_graph.max_step(graph)),
        (flow.lipschitz(0.3), on_graph.lipschitz(graph, 0.3)),
        (flow.lipschitz(3.0), on_graph.lipschitz(graph, 3.0)),
        (flow.field_lipschitz(), field.field_lipschitz()),
    ):
        assert number(mine) == pytest.approx(number(theirs), rel=1e-12)
    assert flow.certified is on_graph.certified
    if on_graph.norm != "linf":  # divided by degrees and elementwise, the same constants hold in ℓ∞ too
        torch.testing.assert_close(flow.norm(x), field.norm(x))


def test_the_ascent_on_a_graph_is_an_expansive_gradient_flow() -> None:
    graph, x = ring(6), draw(6, 2)
    field = GradientAscent(2, activation="huber").double().on(graph)
    flow = field.gradient_flow()
    assert flow.expansive
    torch.testing.assert_close(flow(x), field(x))
    torch.testing.assert_close(flow.lipschitz(0.7), torch.as_tensor(field.lipschitz(0.7)))
    torch.testing.assert_close(flow.field_lipschitz(), torch.as_tensor(field.field_lipschitz()))


class Fixed(GradientFlow):
    """A subclass with arguments of its own, and another field."""

    def __init__(self, size: int) -> None:
        super().__init__(Dense(torch.eye(size, dtype=torch.float64)), "tanh", mu=0.5)

    def forward(self, x: Tensor, t: Tensor | float = 0.0) -> Tensor:
        return super().forward(x, t) / 2


def test_a_subclass_keeps_its_class_with_another_anchor() -> None:
    field, x, anchor = Fixed(3), draw(2, 3), draw(2, 3, seed=1)
    bound = field.anchored(anchor)
    torch.testing.assert_close(bound(x), (-x.tanh() - 0.5 * (x - anchor)) / 2)
    torch.testing.assert_close(field(x), (-x.tanh() - 0.5 * x) / 2)
    assert type(bound) is Fixed
    assert bound.layer is field.layer
    with pytest.raises(TypeError, match="anchor must be a tensor of real numbers"):
        field.anchored(torch.ones(3, dtype=torch.long))
    assert Flow(field, num_steps=2)(x).shape == x.shape


def test_a_subclass_for_a_graph_under_the_old_name_is_one_of_the_graph_flow() -> None:
    with pytest.warns(
        DeprecationWarning, match="GradientFlow on a graph is now GraphGradientFlow, subclass that"
    ) as said:

        class Doubled(GradientFlow):
            def __init__(self, channels: int, *, gain: float, **flow: Any) -> None:
                super().__init__(channels, **flow)  # type: ignore[arg-type]
                self.gain = gain

            def message(self, z_i: Tensor, z_j: Tensor, a: Tensor) -> Tensor:
                return self.gain * a * (z_i - z_j)

    assert said[0].filename == __file__

    class Further(Doubled):
        def rate(self, graph: Graph) -> float:  # type: ignore[override]
            return 0.0

    graph, x = ring(6), draw(6, 3)
    whole = GraphGradientFlow(3, activation="identity", learn_weight=False).double()
    for cls in (Doubled, Further):
        flow = cls(3, gain=2.0, activation="identity", learn_weight=False)
        assert isinstance(flow, GraphGradientFlow)
        torch.testing.assert_close(flow.field(x, graph), 2 * whole.field(x, graph))  # type: ignore[attr-defined]
        torch.testing.assert_close(copy.deepcopy(flow).field(x, graph), flow.field(x, graph))


def test_a_state_is_not_smaller_than_the_kernel() -> None:
    flow = GradientFlow(Conv2d(draw(1, 1, 11, 3), padding=(1, 0)), "tanh")
    x = flow.state()
    assert flow(x).shape == x.shape == (2, 1, 9, 8)
