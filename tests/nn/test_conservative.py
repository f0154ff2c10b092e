"""The conservative layers: what a step keeps, which schemes are refused, and the largest step."""

import pytest
import torch
from torch import Tensor
from torch_geometric.data import Batch, Data

from contractive_gnn.dynamics import (
    Diffusion,
    Dynamics,
    GraphGradientFlow,
    HamiltonianFlow,
    MassDiffusion,
    VolumeCoupling,
)
from contractive_gnn.graph import Graph
from contractive_gnn.inputs import InputError
from contractive_gnn.nn import ConservativeConv, FlowConv, FlowGNN, build
from contractive_gnn.norms import jacobian, number
from contractive_gnn.operators import dirichlet_energy
from contractive_gnn.testing.claims import randomised
from contractive_gnn.testing.graphs import complete_bipartite, random_weighted

GRAPH = random_weighted(6, scale=3.0, seed=3)
SYMPLECTIC = ["strang", "stormer-verlet", "symplectic-euler", "lie-trotter"]


def state(channels: int = 4, seed: int = 0) -> Tensor:
    return torch.randn(6, channels, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def drawn(dynamics: Dynamics, seed: int = 0) -> Dynamics:
    return randomised(dynamics, seed=seed)


def wave(**arguments: object) -> HamiltonianFlow:
    torch.manual_seed(0)
    field = HamiltonianFlow(4, **{"activation": "group-huber", "mu": 0.3, **arguments})
    return drawn(field)  # type: ignore[return-value]


def form(channels: int = 4) -> Tensor:
    """``dq ∧ dp`` on flattened states ``(q | p)`` of six nodes."""
    half = channels // 2
    block = torch.zeros(channels, channels, dtype=torch.float64)
    block[:half, half:] = torch.eye(half)
    return torch.block_diag(*[block - block.T] * 6)  # type: ignore[no-untyped-call, no-any-return]


def defect(layer: FlowConv, x: Tensor) -> float:
    """``‖MᵀJM − J‖`` of the layer as a map."""
    matrix = jacobian(lambda y: layer(y, GRAPH.edge_index, GRAPH.edge_weight), x)
    return float(torch.linalg.matrix_norm(matrix.T @ form() @ matrix - form(), 2))


@pytest.mark.parametrize("scheme", SYMPLECTIC)
def test_the_wave_is_a_symplectic_map(scheme: str) -> None:
    layer = ConservativeConv(wave(), num_steps=2, share=0.5, scheme=scheme)
    assert defect(layer, state()) < 1e-12


def test_with_its_input_for_an_anchor_or_by_euler_it_is_not() -> None:
    step = number(ConservativeConv(wave()).step_size(GRAPH))
    anchored = FlowConv(wave(), num_steps=2, scheme="strang", step=step, constrained=False)
    assert defect(anchored, state()) > 1e-3
    euler = FlowConv(wave(mu=0.0), num_steps=2, step=step, constrained=False)
    assert defect(euler, state()) > 1e-3


def test_the_energy_of_the_wave_stays_in_a_band() -> None:
    field = wave()
    layer = ConservativeConv(field, num_steps=500, share=0.2)
    start = number(field.energy(state(), GRAPH))
    with torch.no_grad():
        states = list(layer.states(state(), GRAPH.edge_index, GRAPH.edge_weight))
    energies = torch.stack([field.energy(x, GRAPH) for x in states[::10]])
    assert float((energies / start - 1).abs().max()) < 0.05
    torch.testing.assert_close(states[-1], layer(state(), GRAPH.edge_index, GRAPH.edge_weight))


def test_the_coupling_keeps_the_volume() -> None:
    torch.manual_seed(0)
    layer = ConservativeConv(drawn(VolumeCoupling(4)), num_steps=3)
    matrix = jacobian(lambda y: layer(y, GRAPH.edge_index, GRAPH.edge_weight), state())
    assert abs(float(torch.linalg.det(matrix)) - 1) < 1e-12


def test_the_diffusion_keeps_the_mass_of_every_channel() -> None:
    torch.manual_seed(0)
    layer = ConservativeConv(drawn(MassDiffusion(4)), num_steps=64, share=1.0)
    assert layer.scheme == "euler"
    moved = layer(state(), GRAPH.edge_index, GRAPH.edge_weight)
    assert float((moved - state()).sum(dim=0).abs().max().detach()) < 1e-12


@pytest.mark.parametrize("scheme", ["euler", "rk4", "implicit-midpoint"])
def test_a_scheme_that_does_not_keep_it_is_refused(scheme: str) -> None:
    with pytest.raises(ValueError, match=r"does not keep the volume.*strang"):
        ConservativeConv(VolumeCoupling(4), scheme=scheme)


def test_what_else_it_refuses() -> None:
    with pytest.raises(ValueError, match="declares nothing that a step could keep"):
        ConservativeConv(Diffusion())
    for share in (0.0, 1.1):
        with pytest.raises(ValueError, match="share"):
            ConservativeConv(MassDiffusion(4), share=share)
    with pytest.raises(ValueError, match="hidden_channels must be even"):
        build("wave", 4, 3, hidden_channels=5)
    with pytest.raises(TypeError):
        ConservativeConv(torch.nn.Linear(4, 4))  # type: ignore[arg-type]
    redescending = ConservativeConv(MassDiffusion(4, activation="group-mcp").double())
    with pytest.raises(ValueError, match="no largest step is known"):
        redescending(state(), GRAPH.edge_index, GRAPH.edge_weight)


def sizes(share: float) -> Tensor:
    """``‖x_k‖`` of the linear wave whose frequency is at the limit, with a step of this share of the largest."""
    pair = complete_bipartite(3, 3)
    graph = Graph(pair.edge_index, 1e9 * pair.edge_weight.double(), 6)
    layer = ConservativeConv(HamiltonianFlow(4, activation="identity", mu=0.1, learn_weight=False), num_steps=400)
    layer.share = share
    with torch.no_grad():
        states = torch.stack(list(layer.states(state(), graph.edge_index, graph.edge_weight)))
    return torch.linalg.vector_norm(states, dim=(1, 2))


@pytest.mark.parametrize("field", [HamiltonianFlow(4), VolumeCoupling(4)])
def test_the_limit_of_two_shears_is_refused(field: Dynamics) -> None:
    with pytest.raises(ValueError, match=r"share must be below 1 for .*two shears.* got 1\.0"):
        ConservativeConv(field, share=1.0)
    ConservativeConv(field, share=0.999)


@pytest.mark.parametrize("name", ["wave", "volume-coupling"])
def test_the_models_of_two_shears_refuse_their_limit(name: str) -> None:
    with pytest.raises(ValueError, match="share must be below 1"):
        build(name, 4, 3, hidden_channels=4, share=1)


def test_at_its_largest_step_a_wave_grows_linearly() -> None:
    grown = sizes(1.0)
    assert float(grown[-1]) > 100 * float(grown[0])
    assert float(grown[-1]) == pytest.approx(2 * float(grown[200]), rel=0.05)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.99])
def test_below_its_largest_step_a_wave_is_bounded(share: float) -> None:
    assert float(sizes(share).max()) < 30 * float(sizes(share)[0])


def test_beyond_it_a_wave_grows_without_bound() -> None:
    assert float(sizes(1.02)[-1]) > 1e10


def test_the_step_follows_the_weights_and_passes_gradients() -> None:
    for field in (HamiltonianFlow(4), VolumeCoupling(4), MassDiffusion(4)):
        layer = ConservativeConv(field.double(), num_steps=2, share=0.1)
        step = layer.step_size(GRAPH)
        assert number(step) == pytest.approx(0.1 * number(layer.largest_step(GRAPH)))
        assert isinstance(step, Tensor)
        assert step.requires_grad


def test_its_largest_step_is_that_of_the_field_and_the_scheme() -> None:
    field = HamiltonianFlow(4, mu=0.5).double()
    layer = ConservativeConv(field)
    curvature = number(field.descent.smoothness(GRAPH)) + 0.5
    assert number(layer.largest_step(GRAPH)) == pytest.approx(2 / curvature**0.5)
    diffusion = MassDiffusion(4).double()
    assert number(ConservativeConv(diffusion).largest_step(GRAPH)) == number(diffusion.max_step(GRAPH))


def test_a_constant_holds_for_the_layer() -> None:
    for field in (HamiltonianFlow(4, mu=0.2), VolumeCoupling(4), MassDiffusion(4)):
        layer = ConservativeConv(field.double(), num_steps=3)
        bound = layer.lipschitz(GRAPH)
        with torch.no_grad():
            moved = layer(state(seed=1), GRAPH.edge_index, GRAPH.edge_weight) - layer(
                state(seed=2), GRAPH.edge_index, GRAPH.edge_weight
            )
        assert float(moved.norm()) <= bound * float((state(seed=1) - state(seed=2)).norm()) * (1 + 1e-9)
    assert ConservativeConv(VolumeCoupling(4).double(), num_steps=10_000).lipschitz(GRAPH) == float("inf")


@pytest.mark.parametrize(
    ("edges", "weights"),
    [
        ([[0, 0, 0], [1, 2, 3]], [1.0, 1.0, 1.0]),  # directed: a star whose step expands
        ([[0, 1], [1, 0]], [-3.0, -3.0]),
        ([[0, 1], [1, 0]], [float("nan"), float("nan")]),
    ],
)
def test_a_constant_is_refused_on_a_graph_that_it_is_not_proved_on(
    edges: list[list[int]], weights: list[float]
) -> None:
    graph = Graph(torch.tensor(edges), torch.tensor(weights, dtype=torch.float64), 4)
    layer = ConservativeConv(MassDiffusion(1, learn_weight=False), share=1.0)
    for bound in (layer.lipschitz, FlowConv(MassDiffusion(1)).lipschitz):
        with pytest.raises(InputError):
            bound(graph)


def test_a_batch_is_graph_by_graph() -> None:
    graphs = [random_weighted(n, seed=n) for n in (4, 7)]
    data = [
        Data(x=torch.randn(g.num_nodes, 4), edge_index=g.edge_index, edge_weight=g.edge_weight.float()) for g in graphs
    ]
    batch = Batch.from_data_list(data)
    for field in (HamiltonianFlow(4, normalization="none"), VolumeCoupling(4), MassDiffusion(4)):
        layer = ConservativeConv(field, num_steps=2)
        apart = torch.cat([layer(one.x, one.edge_index, one.edge_weight) for one in data])
        torch.testing.assert_close(layer(batch.x, batch.edge_index, batch.edge_weight, batch.batch), apart)


def test_a_splitting_compiles_without_a_break() -> None:
    layer = ConservativeConv(VolumeCoupling(4), num_steps=2)
    x, weight = state().float(), GRAPH.edge_weight.float()
    torch._dynamo.reset()
    compiled = torch.compile(layer, backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(compiled(x, GRAPH.edge_index, weight), layer(x, GRAPH.edge_index, weight))


def test_the_mean_of_the_states_is_read() -> None:
    torch.manual_seed(0)
    model = build("wave", 4, 3, hidden_channels=4, num_layers=5, readout="mean").double().eval()
    x = state()
    states = torch.stack(list(model.conv.states(model.encoder(x).relu(), GRAPH.edge_index, GRAPH.edge_weight)))
    torch.testing.assert_close(model(x, GRAPH.edge_index, GRAPH.edge_weight), model.decoder(states.mean(dim=0)))
    with pytest.raises(ValueError, match="readout"):
        build("wave", 4, 3, readout="first")


def test_deep_diffusion_decays_and_wave_and_coupling_do_not() -> None:
    """256 layers with a step of 0.1 of the largest one or more."""
    kept = {}
    for name in ("mass-diffusion", "wave", "volume-coupling"):
        torch.manual_seed(0)
        layer = build(name, 5, 3, hidden_channels=4, num_layers=256, share=0.2).double().conv
        with torch.no_grad():
            last = list(layer.states(state(), GRAPH.edge_index, GRAPH.edge_weight))[-32:]
        # what is constant has none where it is not divided by roots of degrees, and the diffusion ends there
        energies = torch.stack([dirichlet_energy(x, GRAPH, normalization="none") for x in last])
        kept[name] = float(energies.mean() / dirichlet_energy(state(), GRAPH, normalization="none"))
    assert kept["mass-diffusion"] < 1e-6
    assert kept["wave"] > 0.1
    assert kept["volume-coupling"] > 0.1


def test_a_model_by_name_has_no_certified_bound_and_says_so() -> None:
    model = build("wave", 4, 3, hidden_channels=4).double().eval()
    bound = model.lipschitz(state(), GRAPH.edge_index, GRAPH.edge_weight)
    assert not bound.certified
    assert "ConservativeGNN" in bound.reason


def test_the_diffusion_by_contractive_steps_has_a_certified_bound() -> None:
    conv = FlowConv(MassDiffusion(4, activation="group-huber"), num_steps=4)
    model = FlowGNN(4, 3, conv, hidden_channels=4).double().eval()
    bound = model.lipschitz(state(), GRAPH.edge_index, GRAPH.edge_weight)
    assert bound.certified
    assert 0 < bound.change(flips=2) < float("inf")


def test_a_field_of_its_own_that_conserves_is_taken() -> None:
    class Plain(GraphGradientFlow):
        conserves = frozenset({"mass"})

    layer = ConservativeConv(Plain(4, normalization="none").double(), num_steps=3)
    moved = layer(state(), GRAPH.edge_index, GRAPH.edge_weight)
    assert float((moved - state()).sum(dim=0).abs().max().detach()) < 1e-12
