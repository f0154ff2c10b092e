"""What PyTorch and PyG users expect of any module, asked of every model of ours and every layer.

DeepRobust's wrappers are left out: they train themselves, and keep the graph that they were trained on.
"""

from __future__ import annotations

import copy
import io
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch_geometric.data import Data
from torch_geometric.explain import Explainer, GNNExplainer
from torch_geometric.nn import MessagePassing
from torch_geometric.utils import to_torch_coo_tensor, to_torch_csr_tensor

from contractive_gnn import datasets, nn
from contractive_gnn.activations import Huber
from contractive_gnn.dynamics import Diffusion, GradientAscent, GraphGradientFlow, ImplicitFlow
from contractive_gnn.inputs import InputError
from contractive_gnn.nn.deeprobust import DEEPROBUST_MODELS

CLASSES, FEATURES, NODES = 3, 6, 60
UNCONSTRAINED = {"constrained": False, "step": 0.1}  # fields that expand have no contractive step
OPTIONS: dict[str, dict[str, Any]] = {
    "gradient-ascent": UNCONSTRAINED,
    "hamiltonian-flow": UNCONSTRAINED,
    "gradient-flow": {"num_steps": 2},
    "robust": {"rank": 3, "num_steps": 2},
    "robust-provable": {"rank": 3, "num_steps": 2},
    "ensemble": {"members": [{"name": "gcn"}, {"name": "robust", "model": {"rank": 3}}]},
    "mixture": {"teacher": {"name": "csgnn", "model": {"num_layers": 2}}},
    **{name: {"num_layers": 2} for name in ("csgnn", "csgnn-noadj", "ecsgnn", "csgnn-published")},
}
NAMES = [name for name in nn.model_names() if name not in DEEPROBUST_MODELS]
GRAPH = [name for name in NAMES if nn.MODELS.get(name, None) is not nn.MLPClassifier]

LAYERS: dict[str, Callable[[], torch.nn.Module]] = {
    "flow-diffusion": lambda: nn.FlowConv(Diffusion(), num_steps=2),
    "flow-gradient": lambda: nn.FlowConv(
        GraphGradientFlow(FEATURES, placement="inside", normalization="none"), num_steps=2
    ),
    "flow-learned": lambda: nn.FlowConv(Diffusion(activation=Huber(0.5, learnable=True)), num_steps=2, scheme="ssprk3"),
    "alternating": lambda: nn.AlternatingConv(
        GraphGradientFlow(FEATURES, mu=0.5), GradientAscent(FEATURES), num_pairs=2
    ),
    "equilibrium": lambda: nn.EquilibriumConv(Diffusion(mu=0.3)),
    "equilibrium-implicit": lambda: nn.EquilibriumConv(ImplicitFlow(FEATURES)),
    "elastic-conv": lambda: nn.ElasticConv(num_steps=2),
    "rung-conv": lambda: nn.RUNGConv(num_steps=2),
}


def build(name: str, in_channels: int = FEATURES, out_channels: int = CLASSES, **options: Any) -> torch.nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        if name in LAYERS:
            return LAYERS[name]()
        return nn.build(name, in_channels, out_channels, **{**OPTIONS.get(name, {}), **options})


@pytest.fixture(scope="module")
def data() -> Data:
    graph = datasets.contextual_sbm(NODES, classes=CLASSES, features=FEATURES, average_degree=5, seed=0)
    ends = graph.edge_index.sort(dim=0).values
    drawn = torch.rand(NODES * NODES, generator=torch.Generator().manual_seed(1)) + 0.5
    graph.edge_weight = drawn[ends[0] * NODES + ends[1]]  # the same for both orientations
    return graph


SETTINGS = [(name, {}) for name in NAMES] + [
    ("csgnn", {"adjacency": form, "shared": shared, "num_layers": layers, "weight": shared})
    for form in ("fixed", "published", "max-outside", "unconstrained", "l1-inside")
    for shared in (False, True)
    for layers in (1, 3)
]


@pytest.mark.parametrize(("name", "options"), SETTINGS)
def test_every_parameter_has_a_gradient_after_one_step(name: str, options: dict[str, Any], data: Data) -> None:
    model = build(name, **options).train()
    model(data.x, data.edge_index).square().sum().backward()
    assert [key for key, parameter in model.named_parameters() if parameter.grad is None] == []


@pytest.mark.parametrize("name", ["csgnn", "ecsgnn", "robust-ensemble", "mixture"])
def test_distributed_data_parallel_takes_a_second_step(name: str, data: Data) -> None:
    if not torch.distributed.is_available():
        pytest.skip("this build of torch has no torch.distributed")
    torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
    try:
        model = torch.nn.parallel.DistributedDataParallel(build(name))
        for _ in range(2):
            model(data.x, data.edge_index).square().sum().backward()
    finally:
        torch.distributed.destroy_process_group()


def test_what_the_last_layer_makes_of_the_adjacency_is_saved_and_is_no_parameter() -> None:
    model = build("csgnn", num_layers=3)
    keys = [f"blocks.{layer}.adjacency_flow.k" for layer in range(3)]
    assert [key for key in model.state_dict() if key in keys] == keys
    assert [key for key, _ in model.named_parameters() if key in keys] == keys[:2]


@pytest.mark.parametrize("name", NAMES)
def test_safetensors_round_trip(name: str, data: Data) -> None:
    safetensors = pytest.importorskip("safetensors.torch")
    model = build(name).eval()
    for part in model.modules():
        if isinstance(part, nn.Similarity):
            part.calibrate(data.x, data.edge_index, probability=torch.full((NODES, CLASSES), 1 / CLASSES))
        if isinstance(part, nn.SimilarityFlowGNN) and part.similarity is None:
            part.use("nodes")
    twin = build(name).eval()
    with torch.no_grad():
        for parameter in twin.parameters():
            parameter.zero_()
    twin.load_state_dict(safetensors.load(safetensors.save(model.state_dict())))
    assert torch.equal(twin(data.x, data.edge_index), model(data.x, data.edge_index))


def test_a_state_that_holds_a_list_and_a_name_still_loads(data: Data) -> None:
    model = build("robust")
    state = {**model.state_dict(), "_extra_state": "nodes", "similarity._extra_state": [0.25, -1.5]}
    model.load_state_dict(state)
    assert isinstance(model, nn.SimilarityFlowGNN)
    assert isinstance(model.similarity, nn.Similarity)
    assert model.mode == "nodes"
    assert model.similarity.calibration == (0.25, -1.5)
    model.load_state_dict({**state, "similarity._extra_state": None})
    assert model.similarity.calibration is None


def star() -> tuple[Tensor, Tensor]:
    """600 leaves: the degree of the centre is no sum in bfloat16, which would stop at 256."""
    leaves = torch.arange(1, 601)
    edges = torch.stack([torch.cat([leaves, torch.zeros_like(leaves)]), torch.cat([torch.zeros_like(leaves), leaves])])
    return torch.randn(601, FEATURES, generator=torch.Generator().manual_seed(0)) + 1, edges


def assert_near(name: str, found: Tensor, exact: Tensor, tolerance: float) -> None:
    """Relative to the largest score; a cosine that is rounded past GNNGuard's threshold prunes another edge."""
    near = (found - exact).abs().amax(dim=1) <= tolerance * exact.abs().max()
    assert float(near.float().mean()) >= (0.9 if "gnnguard" in name else 1.0)


@pytest.mark.parametrize("name", [*NAMES, *LAYERS])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.bfloat16, 0.04), (torch.float16, 0.01)])
def test_half_precision_is_near_single_precision_at_a_hub_too(name: str, dtype: torch.dtype, tolerance: float) -> None:
    x, edges = star()
    model = build(name).eval()
    with torch.no_grad():
        exact = model(x, edges)
        model.to(dtype)
        found, sparse = model(x.to(dtype), edges), None
        if name in NAMES:
            sparse = model(x.to(dtype).to_sparse_csr(), edges)
    assert found.dtype == dtype
    assert_near(name, found.float(), exact, tolerance)
    if sparse is not None:
        assert_near(name, sparse.float(), exact, tolerance)


def test_what_half_precision_loses() -> None:
    ones = torch.ones(1000)
    assert float(torch.zeros(1).index_add(0, torch.zeros(1000, dtype=torch.long), ones)) == 1000
    short = torch.zeros(1, dtype=torch.bfloat16).index_add(0, torch.zeros(1000, dtype=torch.long), ones.bfloat16())
    assert float(short) < 500


@pytest.mark.parametrize("name", [*NAMES, *LAYERS])
def test_two_dtypes_are_refused(name: str, data: Data) -> None:
    model = build(name)
    if not list(model.parameters()):
        assert model(data.x.double(), data.edge_index).dtype == torch.float64
        return
    with pytest.raises(InputError, match=r"x in torch.float64, but its parameter .* is in torch.float32; bring both"):
        model(data.x.double(), data.edge_index)
    with pytest.raises(InputError, match=r"x in torch.float32, but its parameter .* is in torch.bfloat16"):
        model.bfloat16()(data.x, data.edge_index)


@pytest.mark.parametrize("name", [*GRAPH, *LAYERS])
def test_weights_in_another_precision_are_used_in_that_of_the_features(name: str, data: Data) -> None:
    model = build(name).eval()
    expected = model(data.x, data.edge_index, data.edge_weight)
    found = model(data.x, data.edge_index, data.edge_weight.double())
    assert found.dtype == torch.float32
    assert torch.equal(found, expected)


@pytest.mark.parametrize("name", [*NAMES, *LAYERS])
def test_autocast_is_near_single_precision_at_a_hub_too(name: str) -> None:
    x, edges = star()
    model = build(name).eval()
    with torch.no_grad():
        exact = model(x, edges)
        with torch.autocast("cpu", torch.bfloat16):
            found = model(x, edges)
    assert found.dtype in (torch.float32, torch.bfloat16)
    assert_near(name, found, exact, 0.04)


@pytest.mark.parametrize("name", [*GRAPH, *LAYERS])
def test_a_sparse_adjacency_is_its_edges_and_their_weights(name: str, data: Data) -> None:
    model = build(name).eval()
    plain = model(data.x, data.edge_index, data.edge_weight)
    csr = to_torch_csr_tensor(data.edge_index, data.edge_weight, size=(NODES, NODES))
    coo = to_torch_coo_tensor(data.edge_index, data.edge_weight, size=(NODES, NODES))
    for adjacency in (csr, coo, csr.to_sparse_csc()):
        torch.testing.assert_close(model(data.x, adjacency), plain, atol=1e-5, rtol=1e-4)
    assert not torch.allclose(model(data.x, data.edge_index), plain)
    with pytest.raises(InputError, match="edge_weight must be None where edge_index is a sparse matrix"):
        model(data.x, csr, data.edge_weight)
    wide = to_torch_csr_tensor(data.edge_index, data.edge_weight, size=(NODES + 1, NODES + 1))
    with pytest.raises(InputError, match=r"edge_index is a sparse matrix \[61, 61\]; expected \[60, 60\]"):
        model(data.x, wide)


def test_the_attention_layer_reads_the_values_of_a_sparse_adjacency(data: Data) -> None:
    conv = nn.WeightedGATConv(FEATURES, CLASSES, heads=2, dropout=0.0)
    adjacency = to_torch_csr_tensor(data.edge_index, data.edge_weight, size=(NODES, NODES))
    torch.testing.assert_close(conv(data.x, adjacency), conv(data.x, data.edge_index, data.edge_weight))


@pytest.mark.parametrize("name", [*GRAPH, *LAYERS])
@pytest.mark.parametrize("dtype", [torch.int32, torch.int16, torch.uint8])
def test_indices_of_any_integer_type(name: str, dtype: torch.dtype, data: Data) -> None:
    model = build(name).eval()
    assert torch.equal(model(data.x, data.edge_index.to(dtype)), model(data.x, data.edge_index))


@pytest.mark.parametrize("name", [*NAMES, *LAYERS])
def test_features_that_are_none_are_refused_in_one_sentence(name: str, data: Data) -> None:
    model = build(name)
    for x, sentence in (
        (None, "got x of type NoneType; expected a floating point tensor"),
        (data.x.numpy(), "got x of type ndarray; expected a floating point tensor"),
        (data.x.long(), "got x of torch.int64; expected floating point"),
        (data.x > 0, "got x of torch.bool; expected floating point"),
        (data.x.to(torch.complex64), "got x of torch.complex64; expected floating point"),
        (data.x.unsqueeze(0), r"got x of shape \[1, 60, 6\]; expected \[n, d\]"),
        (data.x[:, 0], r"got x of shape \[60\]; expected \[n, d\]"),
        (data.x.to_sparse(), "got x of layout torch.sparse_coo; expected a dense or torch.sparse_csr"),
    ):
        with pytest.raises(InputError, match=sentence):
            model(x, data.edge_index)


@pytest.mark.parametrize("name", [*GRAPH, *LAYERS])
def test_edges_that_are_none_are_refused_in_one_sentence(name: str, data: Data) -> None:
    model = build(name)
    for edges, weight, sentence in (
        (None, None, "edge_index is of type NoneType; expected an int64 tensor"),
        (data.edge_index.tolist(), None, "edge_index is of type list; expected an int64 tensor"),
        (data.edge_index.float(), None, "edge_index must hold the nodes' numbers"),
        (data.edge_index.bool(), None, "edge_index must hold the nodes' numbers"),
        (torch.ones(NODES, NODES), None, r"edge_index must have shape \[2, E\] or be a sparse \[n, n\] matrix"),
        (data.edge_index, data.edge_weight.unsqueeze(1), r"edge_weight must have shape \[\d+\] to match edge_index"),
        (data.edge_index, torch.ones_like(data.edge_index[0]), "edge_weight must be a floating point tensor"),
        (data.edge_index, data.edge_weight.tolist(), "edge_weight must be a floating point tensor"),
    ):
        with pytest.raises(InputError, match=sentence):
            model(data.x, edges, weight)


@pytest.mark.parametrize("name", [*NAMES, *LAYERS])
def test_small_graphs(name: str, data: Data) -> None:
    model = build(name).eval()
    channels = FEATURES if name in LAYERS else CLASSES
    none = data.edge_index[:, :0]
    for n in (0, 1, NODES):
        out = model(data.x[:n], none)
        assert out.shape == (n, channels)
        assert bool(out.isfinite().all())


@pytest.mark.parametrize("name", NAMES)
def test_one_class(name: str, data: Data) -> None:
    out = build(name, out_channels=1).eval()(data.x, data.edge_index)
    assert out.shape == (NODES, 1)
    assert bool(out.isfinite().all())


@pytest.mark.parametrize("name", [*NAMES, *LAYERS])
def test_copies_and_pickles_after_a_step(name: str, data: Data) -> None:
    model = build(name).train()
    x, weight = data.x.clone().requires_grad_(), data.edge_weight.clone().requires_grad_()
    model(x, data.edge_index, weight).square().sum().backward()
    model.eval()(data.x, data.edge_index)
    memory = io.BytesIO()
    torch.save(model, memory)
    memory.seek(0)
    expected = model(data.x, data.edge_index)
    for twin in (copy.deepcopy(model), torch.load(memory, weights_only=False)):
        assert torch.equal(twin(data.x, data.edge_index), expected)


@pytest.mark.parametrize("name", [*NAMES, *LAYERS])
def test_inference_mode_and_what_comes_after_it(name: str, data: Data) -> None:
    model = build(name).eval()
    with torch.inference_mode():
        quick = model(data.x, data.edge_index)
    x = data.x.clone().requires_grad_()
    out = model(x, data.edge_index)
    out.sum().backward()
    torch.testing.assert_close(quick, out.detach())


@pytest.mark.parametrize("name", NAMES)
def test_lazy_channels(name: str, data: Data) -> None:
    model = build(name, in_channels=-1).eval()
    assert model(data.x, data.edge_index).shape == (NODES, CLASSES)
    assert model.double()(data.x.double(), data.edge_index).dtype == torch.float64


@pytest.mark.parametrize("name", [*NAMES, *LAYERS])
def test_reset_draws_everything_anew(name: str, data: Data) -> None:
    model = build(name).train()
    if not hasattr(model, "reset_parameters"):  # a layer without parameters
        assert list(model.parameters()) == []
        return
    states = []
    with torch.random.fork_rng():
        for _ in range(2):
            torch.manual_seed(5)
            model.reset_parameters()  # type: ignore[operator]
            states.append(copy.deepcopy(model.state_dict()))
            with torch.no_grad():
                for parameter in model.parameters():
                    parameter.add_(1.0)
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])


@pytest.mark.parametrize("name", NAMES)
def test_memory_from_the_meta_device_is_drawn_by_reset(name: str, data: Data) -> None:
    with torch.device("meta"):
        empty = build(name)
    answers = []
    with torch.random.fork_rng():
        for model in (empty.to_empty(device="cpu"), build(name)):
            torch.manual_seed(5)
            model.reset_parameters()  # type: ignore[operator]
            answers.append(model.eval()(data.x, data.edge_index))
    assert torch.equal(*answers)


def relative(found: Tensor, expected: Tensor) -> float:
    return float((found - expected).abs().max() / (1 + expected.abs().max()))


TRACED = ["csgnn", "gradient-flow", "robust", "flow-diffusion"]


@pytest.mark.parametrize("name", TRACED)
def test_compiled_it_is_the_same_and_so_are_its_gradients(name: str, data: Data) -> None:
    torch._dynamo.reset()
    model = build(name).train()
    for part in model.modules():
        if hasattr(part, "dropout"):
            part.dropout = 0.0  # type: ignore[assignment]
    found = []
    for forward in (model, torch.compile(model, backend="aot_eager")):
        x, weight = data.x.clone().requires_grad_(), data.edge_weight.clone().requires_grad_()
        model.zero_grad()
        out = forward(x, data.edge_index, weight)
        out.square().sum().backward()
        found.append([out.detach(), x.grad, weight.grad, *(p.grad.clone() for p in model.parameters())])  # type: ignore[union-attr]
    assert max(map(relative, found[1], found[0])) < 1e-6  # type: ignore[arg-type]


EXPORTED = ["gcn", "gat", "appnp", "csgnn", "linf-diffusion", "gradient-flow-degree", "redescending-flow"]
EXPORTED += ["implicit-flow", "gnnguard", "rung", "elastic-conv", "flow-diffusion", "flow-gradient"]


@pytest.mark.parametrize("name", EXPORTED)
def test_an_exported_program_answers_about_another_graph(name: str, data: Data) -> None:
    model = build(name).eval()
    n, e = torch.export.Dim("n", min=2), torch.export.Dim("e", min=2)
    arguments = data.x, data.edge_index, data.edge_weight
    shapes = {"x": {0: n}, "edge_index": {1: e}, "edge_weight": {0: e}}
    program = torch.export.export(model, arguments, dynamic_shapes=shapes, strict=False).module()
    other = datasets.contextual_sbm(45, classes=CLASSES, features=FEATURES, average_degree=4, seed=3)
    weight = torch.full((other.edge_index.size(1),), 0.7)
    with torch.no_grad():
        expected, found = model(other.x, other.edge_index, weight), program(other.x, other.edge_index, weight)
    assert relative(found, expected) < 1e-6


@pytest.mark.parametrize("name", ["robust", "robust-ensemble", "alternating", "equilibrium"])
def test_what_depends_on_values_is_not_exported(name: str, data: Data) -> None:
    if not hasattr(torch.compiler, "is_exporting"):
        pytest.skip("this torch does not tell an export from a compilation")
    with pytest.raises(NotImplementedError, match=r"cannot be exported: .*; use torch.compile"):
        torch.export.export(build(name).eval(), (data.x, data.edge_index), strict=False)


@pytest.mark.parametrize("name", GRAPH)
def test_an_explainer_weighs_the_edges_where_layers_pass_messages(name: str, data: Data) -> None:
    model = build(name).eval()
    if not any(isinstance(part, MessagePassing) for part in model.modules()):
        return
    explainer = Explainer(
        model,
        algorithm=GNNExplainer(epochs=2),
        explanation_type="model",
        edge_mask_type="object",
        model_config={"mode": "multiclass_classification", "task_level": "node", "return_type": "raw"},
    )
    assert explainer(data.x, data.edge_index, index=0).edge_mask.shape == (data.edge_index.size(1),)
