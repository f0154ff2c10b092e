"""The flow layer: its steps, its schemes, and the constant that its docstring states."""

import copy
import io
import math
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from contractive_gnn import datasets
from contractive_gnn.dynamics import Diffusion, GradientFlow, GraphGradientFlow, SumField, VectorField
from contractive_gnn.graph import Graph
from contractive_gnn.inputs import InputError
from contractive_gnn.integrators import SCHEMES, Invariant, RungeKutta, solver
from contractive_gnn.nn import Alternating, AlternatingConv, Equilibrium, EquilibriumConv, Flow, FlowConv
from contractive_gnn.norms import number
from contractive_gnn.operators import Dense

EXPLICIT = [name for name in SCHEMES if isinstance(solver(name), RungeKutta) and solver(name).explicit]


@pytest.fixture(scope="module")
def graph() -> Graph:
    data = datasets.contextual_sbm(30, classes=2, features=4, average_degree=6, seed=1)
    return Graph.of(data.x.double(), data.edge_index)


def test_euler_is_what_it_says(graph: Graph) -> None:
    flow = Diffusion(threshold=0.5)
    x = torch.randn(30, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    once = FlowConv(flow, num_steps=1, step=0.3)(x, graph.edge_index, graph.edge_weight)
    torch.testing.assert_close(once, x + 0.3 * flow.field(x, graph, anchor=x))


@pytest.mark.parametrize("scheme", EXPLICIT)
@settings(max_examples=5)
@given(seed=st.integers(0, 2**31))
def test_a_constrained_layer_never_expands_in_its_input(graph: Graph, scheme: str, seed: int) -> None:
    """The anchor moves with the input: 1 is the constant of the docstring for a monotone σ, in the field's norm."""
    fields = [GraphGradientFlow(4, activation="group-huber", mu=0.3, learn_weight=False)]
    if scheme != "rk4":
        fields.append(Diffusion(threshold=0.5, mu=0.3))  # type: ignore[arg-type]
    generator = torch.Generator().manual_seed(seed)
    for field in fields:
        conv = FlowConv(field, num_steps=5, scheme=scheme)
        for _ in range(4):
            x = torch.randn(30, 4, dtype=torch.float64, generator=generator)
            change = torch.randn(30, 4, dtype=torch.float64, generator=generator).sign()
            moved = conv(x + change, graph.edge_index) - conv(x, graph.edge_index)
            size = torch.amax if field.norm == "linf" else torch.linalg.norm
            assert float(size(moved.abs())) <= float(size(change.abs())) * (1 + 1e-9)


def test_a_step_beyond_the_condition_is_cut_down(graph: Graph) -> None:
    conv = FlowConv(Diffusion(mu=1.0), step=10.0)
    assert conv.step_size(graph) == 0.5
    assert FlowConv(Diffusion(mu=1.0), step=10.0, constrained=False).step_size(graph) == 10.0


def test_errors_say_what_was_expected(graph: Graph) -> None:
    x = torch.zeros(30, 4, dtype=torch.float64)
    with pytest.raises(ValueError, match="no contractive step with rk4 on this graph"):
        FlowConv(Diffusion(), scheme="rk4")(x, graph.edge_index)
    with pytest.raises(ValueError, match="no contractive step with euler on this graph"):
        FlowConv(GraphGradientFlow(4, activation="group-mcp")).double()(x, graph.edge_index)
    with pytest.raises(ValueError, match="scheme must be explicit, got 'implicit-euler'"):
        FlowConv(Diffusion(), scheme="implicit-euler")
    with pytest.raises(ValueError, match="an unconstrained layer needs a step"):
        FlowConv(Diffusion(), constrained=False)
    with pytest.raises(ValueError, match="num_steps must be at least 1"):
        FlowConv(Diffusion(), num_steps=0)


class Decay(VectorField):
    """``−k (x − x⁰) − d x`` for states of any shape: everything about it is known."""

    def __init__(self, k: float = 0.5, d: float = 0.0, anchor: Tensor | None = None) -> None:
        super().__init__()
        self.k, self.d = torch.nn.Parameter(torch.tensor(k, dtype=torch.float64)), d
        self.register_buffer("anchor", anchor, persistent=False)

    def forward(self, x: Tensor, t: Tensor | float = 0.0) -> Tensor:
        pull = x if self.anchor is None else x - self.anchor
        return -self.k.to(x.dtype) * pull - self.d * x

    def rate(self) -> Tensor:
        return self.k + self.d

    def max_step(self) -> Tensor:
        return 1 / (self.k + self.d)

    def anchored(self, anchor: Tensor) -> "Decay":
        made = copy.copy(self)
        made._buffers = {"anchor": anchor}
        return made

    @property
    def anchor_lipschitz(self) -> float:
        return float(self.k.detach())


@pytest.mark.parametrize("shape", [(), (3,), (2, 3, 8, 8)])
def test_a_flow_takes_states_of_any_shape(shape: tuple[int, ...]) -> None:
    x = torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    flow = Flow(Decay(0.5, 0.5), num_steps=3, step=0.2)
    expected = x
    for _ in range(3):
        expected = expected - 0.2 * (0.5 * (expected - x) + 0.5 * expected)
    torch.testing.assert_close(flow(x), expected)
    assert flow(x.float()).dtype == torch.float32


@pytest.mark.parametrize("scheme", EXPLICIT)
def test_the_constant_of_a_flow_is_that_of_its_linear_map(scheme: str) -> None:
    """On a linear scalar field the layer is ``x ↦ cx``: the constant is c itself, at and below the longest step."""
    for step in (None, 0.3):
        flow = Flow(Decay(0.5, 1.0), num_steps=4, step=step, scheme=scheme)
        factor = float(flow(torch.ones((), dtype=torch.float64)).detach())
        if scheme == "rk4":  # the anchor moves with the input, and no convex combination of Euler steps is known
            assert flow.lipschitz() == math.inf
            assert Flow(Decay(0.0, 1.0), num_steps=4, step=step, scheme=scheme).lipschitz() == 1.0
        else:
            assert flow.lipschitz() == pytest.approx(factor)


def test_a_step_beyond_the_condition_has_no_constant() -> None:
    long = Flow(Decay(), step=5.0, num_steps=1, constrained=False)
    assert long.step_size() == 5.0
    assert long.lipschitz() == math.inf
    assert number(Flow(Decay(), step=5.0, num_steps=1).step_size()) == 2.0
    # and beyond twice the longest one it does expand
    assert abs(float(Flow(Decay(0.0, 1.0), step=2.5, num_steps=1, constrained=False)(torch.tensor(1.0)))) > 1


def test_a_flow_on_a_graph_is_the_layer_on_that_graph(graph: Graph) -> None:
    x = torch.randn(30, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    for dynamics in (Diffusion(threshold=0.5), GraphGradientFlow(4, mu=0.2, normalization="degree").double()):
        for scheme in ("euler", "heun", "ssprk3"):
            conv = FlowConv(dynamics, num_steps=3, scheme=scheme)
            flow = Flow(dynamics.on(graph), num_steps=3, scheme=scheme)
            assert torch.equal(flow(x), conv(x, graph.edge_index, graph.edge_weight))
            assert number(flow.step_size()) == number(conv.step_size(graph))
            assert flow.lipschitz() == conv.lipschitz(graph)


def test_a_flow_takes_a_fused_way_where_the_field_has_one(graph: Graph) -> None:
    calls: list[int] = []

    class Counted(Diffusion):
        def euler(self, *args: Tensor, num_steps: int, **rest: Tensor) -> Tensor:  # type: ignore[override]
            calls.append(num_steps)
            return super().euler(*args, num_steps=num_steps, **rest)  # type: ignore[arg-type, misc]

    Flow(Counted().on(graph), num_steps=7)(torch.zeros(30, 4, dtype=torch.float64))
    assert calls == [7]


def test_a_flow_trains_its_field_and_its_step(graph: Graph) -> None:
    flow = Flow(Decay(), num_steps=2)
    optimiser = torch.optim.SGD(flow.parameters(), lr=0.1)
    x, losses = torch.ones(3, dtype=torch.float64), []
    for _ in range(4):
        optimiser.zero_grad()
        loss = (Flow(flow.field, num_steps=2, step=0.3)(x) - 0.2).square().sum() + (flow.step_size() - 1) ** 2
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    assert all(late < early for early, late in pairwise(losses))
    file = io.BytesIO()
    torch.save(flow.state_dict(), file)
    file.seek(0)
    twin = Flow(Decay(), num_steps=2)
    twin.load_state_dict(torch.load(file, weights_only=True))
    assert torch.equal(twin(x), flow(x))


def test_a_flow_is_compiled_and_exported_whole(graph: Graph) -> None:
    dynamics = GraphGradientFlow(4, mu=0.3, normalization="degree").double()
    x = torch.randn(30, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    for layer, args in (
        (Flow(dynamics.on(graph), num_steps=3), (x,)),
        (FlowConv(dynamics, num_steps=3), (x, graph.edge_index, graph.edge_weight)),
    ):
        torch._dynamo.reset()
        compiled = torch.compile(layer, backend="aot_eager", fullgraph=True)
        torch.testing.assert_close(compiled(*args), layer(*args))
        exported = torch.export.export(layer, args)
        torch.testing.assert_close(exported.module()(*args), layer(*args))


def test_a_flow_says_what_it_takes() -> None:
    with pytest.raises(TypeError, match=r"Flow takes a VectorField, got Diffusion; .*dynamics.on\(graph\)"):
        Flow(Diffusion())  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="Flow takes a VectorField, got function"):
        Flow(lambda x: x)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"Flow got x of torch.int64; expected a floating point tensor"):
        Flow(Decay())(torch.zeros(3, dtype=torch.long))
    with pytest.raises(ValueError, match=r"no contractive step with euler \(rate -0.5, norm l2\)"):
        Flow(Decay(-0.5))(torch.zeros(3))
    with pytest.raises(ValueError, match="every step of implicit-euler contracts in l2: give step"):
        Flow(Decay(), scheme="implicit-euler")(torch.zeros(3))
    with pytest.raises(ValueError, match=r"stormer-verlet needs a VectorField with parts\(\)"):
        Flow(Decay(), scheme="stormer-verlet", step=0.1, constrained=False)


@pytest.mark.parametrize("scheme", ["implicit-euler", "implicit-midpoint"])
def test_an_implicit_flow_has_the_constant_of_its_linear_map(scheme: str) -> None:
    """``c`` of ``x ↦ cx``; the anchor moves with the input, and the midpoint's radius is 2 in every norm, h_E = ⅔."""
    for step in (0.3, 1.2):
        flow = Flow(Decay(0.5, 1.0), num_steps=4, step=step, scheme=scheme)
        factor = number(flow(torch.ones((), dtype=torch.float64)))
        assert flow.lipschitz() == pytest.approx(factor, rel=1e-9)
    with pytest.raises(ValueError, match=rf"no contractive step with {scheme} \(rate -0.5"):
        Flow(Decay(-0.5), step=0.1, scheme=scheme)(torch.zeros(3))


class Turn(VectorField):
    """``q̇ = p, ṗ = −q`` for states ``(q, p)``, by its two shears; nothing pulls it anywhere."""

    conserves = frozenset[Invariant]({"norm", "volume", "symplectic", "energy"})

    def __init__(self, *, q: bool = True, p: bool = True) -> None:
        super().__init__()
        self.q, self.p, self.shear = q, p, not (q and p)

    def forward(self, x: Tensor, t: Tensor | float = 0.0) -> Tensor:
        q, p = x.chunk(2, dim=-1)
        return torch.cat([self.q * p, -(self.p * q)], dim=-1)

    def rate(self) -> float:
        return 0.0 if self.q and self.p else -0.5

    def lipschitz(self, step: Tensor | float) -> float:
        h = number(step)
        return math.hypot(1, h) if self.q and self.p else h / 2 + math.hypot(1, h / 2)

    def parts(self) -> tuple[VectorField, ...]:
        return (Turn(p=False), Turn(q=False)) if self.q and self.p else (self,)


def test_a_symplectic_flow_takes_the_two_parts_of_its_field() -> None:
    flow = Flow(Turn(), num_steps=1000, step=0.1, scheme="stormer-verlet", constrained=False)
    x = torch.tensor([[1.0, 0.0], [0.3, -0.4]], dtype=torch.float64)
    energy = flow(x).square().sum(dim=-1)
    torch.testing.assert_close(energy, x.square().sum(dim=-1), rtol=3e-3, atol=0.0)
    euler = Flow(Turn(), num_steps=1000, step=0.1, constrained=False)
    assert float(euler(x)[0].square().sum()) > 1e4  # (1 + h²)^K
    assert euler.lipschitz() == pytest.approx(float(euler(x)[0].norm()))
    short = Flow(Turn(), num_steps=1, step=0.1, scheme="symplectic-euler", constrained=False)
    step = torch.tensor([[1 - 0.01, 0.1], [-0.1, 1.0]], dtype=torch.float64)  # p first, then q
    torch.testing.assert_close(short(x), x @ step.T)
    assert float(torch.linalg.matrix_norm(step, 2)) <= short.lipschitz() < 1.2
    with pytest.raises(ValueError, match="no contractive step with stormer-verlet"):
        Flow(Turn(), scheme="stormer-verlet")(x)


@pytest.mark.parametrize("mu", [0.3, 0.7, 0.9, 1.3])
def test_a_largest_step_that_was_rounded_up_has_a_constant(mu: float) -> None:
    field = GradientFlow(Dense(torch.zeros(1, 2)), mu=mu)  # κ = 1/h_E, and their product is above 1 in float32
    assert Flow(field, scheme="heun").lipschitz() == pytest.approx(1.0)


def test_a_field_whose_norm_is_a_name_is_refused() -> None:
    class Named(Turn):
        norm = "linf"  # type: ignore[assignment]

    with pytest.raises(TypeError, match=r"the norm of Named must be an object, L1, L2 or LInf .* got 'linf'"):
        Flow(Named(), step=0.1, constrained=False)


def test_a_field_of_a_domain_is_not_taken_for_a_dynamics() -> None:
    field = GradientFlow(Dense(torch.eye(2)), mu=0.5)
    with pytest.raises(TypeError, match=r"FlowConv takes a Dynamics, got GradientFlow; a field .* is for Flow"):
        FlowConv(field)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"EquilibriumConv takes a Dynamics, got GradientFlow; .* is for Equilibrium"):
        EquilibriumConv(field)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="AlternatingConv takes a Dynamics, got int"):
        AlternatingConv(GraphGradientFlow(2, mu=0.5), 3)  # type: ignore[arg-type]


@pytest.mark.parametrize("scheme", ["euler", "implicit-midpoint"])
def test_a_field_whose_value_only_broadcasts_is_refused(scheme: str) -> None:
    class Flat(VectorField):
        def forward(self, x: Tensor, t: Tensor | float = 0.0) -> Tensor:
            return -x.squeeze(-1)

    layer = Flow(Flat(), num_steps=1, step=0.1, constrained=False, scheme=scheme)
    with pytest.raises(ValueError, match=r"shape of its state, \[4, 1\], got \[4\]"):
        layer(torch.rand(4, 1))


def test_a_constant_is_refused_where_a_field_is_bound_to_a_graph_that_it_is_not_proved_on() -> None:
    edges = torch.tensor([[0, 0, 0], [1, 2, 3]])  # directed
    x = torch.zeros(4, 1, dtype=torch.float64)
    diffusion = Diffusion(mu=0.5).on(Graph.of(x, edges))
    for layer in (Flow(diffusion), Flow(SumField(diffusion, diffusion)), Equilibrium(diffusion)):
        with pytest.raises(InputError, match="directed"):
            layer.lipschitz()
    descent = GraphGradientFlow(1, mu=0.5, learn_weight=False).double().on(Graph.of(x, edges))
    ascent = GradientFlow(Dense(torch.eye(1, dtype=torch.float64)), expansive=True)
    with pytest.raises(InputError, match="directed"):
        Alternating(descent, ascent, num_pairs=1).lipschitz()
