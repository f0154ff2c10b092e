"""What every registered model promises: shapes, graph formats, equivariance, gradients, state, explainers."""

import copy

import pytest
import torch
from torch import Tensor
from torch_geometric.data import Data
from torch_geometric.explain import Explainer, GNNExplainer
from torch_geometric.utils import to_torch_csr_tensor

from contractive_gnn import datasets, nn

OURS = [
    "mlp",
    "gcn",
    "gat",
    "appnp",
    "csgnn",
    "csgnn-noadj",
    "ecsgnn",
    "csgnn-published",
    "gradient-flow",
    "linf-diffusion",
    "rung",
    "elastic-gnn",
    "gnnguard",
]


@pytest.fixture(scope="module")
def data() -> Data:
    return datasets.contextual_sbm(60, classes=3, features=8, average_degree=6, seed=0)


@pytest.fixture(params=OURS)
def model(request: pytest.FixtureRequest, data: Data) -> torch.nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.build(request.param, data.num_features, 3, hidden_channels=8).eval()


def test_shape_and_finite(model: torch.nn.Module, data: Data) -> None:
    out = model(data.x, data.edge_index)
    assert out.shape == (60, 3)
    assert bool(torch.isfinite(out).all())


def test_ones_are_the_default_weight(model: torch.nn.Module, data: Data) -> None:
    ones = torch.ones(data.edge_index.size(1))
    torch.testing.assert_close(model(data.x, data.edge_index, ones), model(data.x, data.edge_index))


def test_weight_zero_is_an_absent_edge(model: torch.nn.Module, data: Data) -> None:
    """To a flow of the adjacency an edge of weight 0 is an entry that it may fill; to all others it is no edge."""
    if isinstance(model, nn.CSGNN) and model.layers()[0].adjacency_flow is not None:
        return
    weight = torch.ones(data.edge_index.size(1))
    gone = data.edge_index.min(0).values * 60 + data.edge_index.max(0).values
    gone = gone == gone[0]
    weight[gone] = 0
    removed = model(data.x, data.edge_index[:, ~gone])
    torch.testing.assert_close(model(data.x, data.edge_index, weight), removed, atol=1e-5, rtol=1e-4)


def test_sparse_features_equal_dense_ones(model: torch.nn.Module, data: Data) -> None:
    torch.testing.assert_close(model(data.x.to_sparse_csr(), data.edge_index), model(data.x, data.edge_index))


@pytest.mark.parametrize("name", ["csgnn", "gradient-flow", "linf-diffusion"])
def test_a_sparse_adjacency_equals_its_edges(name: str, data: Data) -> None:
    model = nn.build(name, data.num_features, 3).eval()
    adjacency = to_torch_csr_tensor(data.edge_index, size=(60, 60))
    torch.testing.assert_close(model(data.x, adjacency), model(data.x, data.edge_index))
    with pytest.raises(ValueError, match="edge_weight must be None where edge_index is a sparse matrix"):
        model(data.x, adjacency, torch.ones(data.edge_index.size(1)))


def test_permutation_equivariance(model: torch.nn.Module, data: Data) -> None:
    order = torch.randperm(60, generator=torch.Generator().manual_seed(1))
    where = torch.empty_like(order)
    where[order] = torch.arange(60)
    permuted = model(data.x[order], where[data.edge_index])
    torch.testing.assert_close(permuted, model(data.x, data.edge_index)[order], atol=1e-5, rtol=1e-4)


def test_gradients_reach_features_and_edge_weights(model: torch.nn.Module, data: Data) -> None:
    x, weight = data.x.clone().requires_grad_(), torch.ones(data.edge_index.size(1), requires_grad=True)
    out = model(x, data.edge_index, weight)
    out.square().sum().backward()
    assert x.grad is not None
    assert bool(x.grad.abs().sum() > 0)
    blind = type(model) is nn.MLPClassifier
    assert (weight.grad is None) == blind
    if weight.grad is not None:
        assert bool(torch.isfinite(weight.grad).all())
        assert bool((weight.grad != 0).float().mean() > 0.9)


def test_float64_and_the_gradient_in_the_edge_weights(model: torch.nn.Module, data: Data) -> None:
    model = copy.deepcopy(model).double()
    generator = torch.Generator().manual_seed(2)
    weight = torch.rand(data.edge_index.size(1), dtype=torch.float64, generator=generator) + 0.5
    direction = torch.randn(weight.shape, dtype=torch.float64, generator=generator)

    def score(t: Tensor) -> Tensor:
        return model(data.x.double(), data.edge_index, weight + t * direction).square().sum()

    t = torch.zeros((), dtype=torch.float64, requires_grad=True)
    value = score(t)
    if not value.requires_grad:  # the features alone decide
        return
    (slope,) = torch.autograd.grad(value, t, allow_unused=True, materialize_grads=True)
    numeric = (score(torch.tensor(1e-6)) - score(torch.tensor(-1e-6))) / 2e-6
    torch.testing.assert_close(slope, numeric.to(slope), rtol=1e-4, atol=1e-4)


def test_state_round_trip_and_reset(model: torch.nn.Module, data: Data) -> None:
    twin = copy.deepcopy(model)
    with torch.random.fork_rng():
        torch.manual_seed(3)
        twin.reset_parameters()  # type: ignore[operator]
    assert not torch.allclose(twin(data.x, data.edge_index), model(data.x, data.edge_index))
    twin.load_state_dict(model.state_dict())
    torch.testing.assert_close(twin(data.x, data.edge_index), model(data.x, data.edge_index))


@pytest.mark.parametrize("name", ["csgnn", "gradient-flow", "linf-diffusion"])
def test_an_explainer_finds_the_edges_that_matter(name: str, data: Data) -> None:
    """PyG's explainers put masks on MessagePassing layers: ours are such layers, and the masks reach them."""
    nn.build("gradient-flow", data.num_features, 3)  # its layer is the base class of CSGNN's: the order must not matter
    model = nn.build(name, data.num_features, 3, dropout=0.0).eval()
    explainer = Explainer(
        model,
        algorithm=GNNExplainer(epochs=5),
        explanation_type="model",
        edge_mask_type="object",
        model_config={"mode": "multiclass_classification", "task_level": "node", "return_type": "raw"},
    )
    explanation = explainer(data.x, data.edge_index, index=0)
    assert explanation.edge_mask.shape == (data.edge_index.size(1),)
    assert bool((explanation.edge_mask > 0).any())


def test_unknown_names_and_shapes_say_what_was_expected(data: Data) -> None:
    with pytest.raises(ValueError, match="no model is called 'gnn'"):
        nn.build("gnn", 2, 2)
    model = nn.build("linf-diffusion", data.num_features, 3)
    with pytest.raises(ValueError, match=r"edge_weight must have shape \[\d+\]"):
        model(data.x, data.edge_index, torch.ones(3))
    with pytest.raises(ValueError, match=r"edge_index must have shape \[2, E\]"):
        model(data.x, data.edge_index.T)
