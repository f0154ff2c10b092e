"""The adjacency flows: sparse against dense, and every claim of non-expansiveness at its edge and beyond."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from contractive_gnn.activations import Activation, Identity, LeakyReLU, Tanh
from contractive_gnn.dynamics import Adjacency, AdjacencyFlow
from contractive_gnn.dynamics.adjacency import FORMS, Form
from contractive_gnn.graph import Graph

CORRECTED: tuple[Form, ...] = ("l1-inside", "l1-outside", "max-outside")
SLACK = 1e-12  # float64; the largest matrices here have 64 entries of order 1


def symmetric(n: int, generator: torch.Generator) -> Tensor:
    a = torch.randn(n, n, dtype=torch.float64, generator=generator)
    return a + a.T


def flow_of(
    form: Form, seed: int, sigma: Activation | None = None, *, step: float = 1e9, scale: float = 1.0
) -> AdjacencyFlow:
    """A random flow; the default step is cut down to the edge of the form's condition."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        flow = AdjacencyFlow(form=form, activation=sigma, alpha=-float(torch.rand(1)), step=step, scale=scale)
    return flow.double()


def size(flow: AdjacencyFlow, a: Tensor) -> float:
    return float(a.abs().max() if flow.norm == "vec-linf" else a.abs().sum())


def perturb(a: Tensor, generator: torch.Generator) -> Tensor:
    """Change one (symmetric pair of) entries, as flipping an edge does, or all of them."""
    n = a.size(0)
    if torch.rand(1, generator=generator) < 0.3:
        return a + torch.randn((), dtype=a.dtype, generator=generator) * symmetric(n, generator)
    i, j = torch.randint(n, (2,), generator=generator).tolist()
    change = torch.zeros_like(a)
    change[i, j] = change[j, i] = torch.randn((), dtype=a.dtype, generator=generator)
    return a + change


def largest_ratio(flow: AdjacencyFlow, *, n: int = 6, tries: int = 200, seed: int = 0) -> float:
    generator = torch.Generator().manual_seed(seed)
    largest = 0.0
    with torch.no_grad():
        for _ in range(tries):
            a = symmetric(n, generator) * float(torch.rand(1, generator=generator))
            b = perturb(a, generator)
            largest = max(largest, size(flow, flow.forward_dense(a) - flow.forward_dense(b)) / size(flow, a - b))
    return largest


@pytest.mark.parametrize("form", CORRECTED)
@pytest.mark.parametrize("sigma", [LeakyReLU(0.2), Tanh(), Identity()], ids=["leaky", "tanh", "linear"])
@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 2**31))
def test_a_corrected_flow_is_non_expansive_at_the_edge_of_its_condition(
    form: Form, sigma: Activation, seed: int
) -> None:
    if form == "l1-outside" and sigma.slopes[0] == 0:
        with pytest.raises(ValueError, match="smallest slope is positive"):
            AdjacencyFlow(form=form, activation=sigma)
        return
    flow = flow_of(form, seed, sigma)
    assert flow.certified
    assert largest_ratio(flow, tries=40, seed=seed) <= 1 + SLACK


@pytest.mark.parametrize("form", CORRECTED)
def test_a_corrected_flow_expands_beyond_its_condition(form: Form, monkeypatch: pytest.MonkeyPatch) -> None:
    flow = flow_of(form, 1)
    torch.nn.init.zeros_(flow.k)  # only the decay α is left, and its bound is then sharp
    edge = flow.step_size()
    assert largest_ratio(flow) == pytest.approx(1.0, abs=1e-9)
    monkeypatch.setattr(flow, "step_size", lambda: 1.2 * edge)
    assert largest_ratio(flow) > 1.3


@pytest.mark.parametrize("form", CORRECTED)
def test_a_corrected_flow_needs_its_k1(form: Form, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the sign of k₁ changed, the same step expands."""
    flow = flow_of(form, 2, step=0.05)
    k = flow.coefficients().detach().clone()
    k[0] = -k[0]
    monkeypatch.setattr(flow, "coefficients", lambda: k)
    assert largest_ratio(flow) > 1.01


def test_the_published_form_breaks_its_claim() -> None:
    """Printed k₁ and h, LeakyReLU(0.2), n = 6: one flipped entry moves the ℓ1 norm by much more than itself."""
    flows = [flow_of("published", seed) for seed in range(40)]
    assert not any(flow.certified for flow in flows)
    assert max(largest_ratio(flow, tries=100) for flow in flows) > 1.2


def test_the_published_form_is_right_for_a_linear_activation() -> None:
    flow = flow_of("published", 3, Identity())
    assert flow.certified
    assert largest_ratio(flow) <= 1 + SLACK


def random_adjacency(n: int, generator: torch.Generator) -> Adjacency:
    upper = torch.triu(torch.rand(n, n, generator=generator) < 0.3, diagonal=1).nonzero().T
    weight = torch.rand(upper.size(1), dtype=torch.float64, generator=generator)
    graph = Graph(torch.cat([upper, upper.flip(0)], dim=1), torch.cat([weight, weight]), n)
    return Adjacency.of(graph)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("sigma", [LeakyReLU(0.2), Tanh(0.1), Identity()], ids=["leaky", "tanh", "linear"])
@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 2**31), n=st.integers(2, 8), scale=st.floats(0.01, 1.0))
def test_the_sparse_step_is_within_its_error_bound_of_the_dense_one(
    form: Form, sigma: Activation, seed: int, n: int, scale: float
) -> None:
    if form == "l1-outside" and sigma.slopes[0] == 0:
        return
    generator = torch.Generator().manual_seed(seed)
    sparse = random_adjacency(n, generator)
    dense = sparse.dense()
    with torch.no_grad():
        for layer in range(3):
            flow = flow_of(form, seed + layer, sigma, step=0.3, scale=scale)
            sparse, dense = flow(sparse), flow.forward_dense(dense)
            distance = size(flow, sparse.dense() - dense)
            assert distance <= sparse.error * (1 + 1e-9) + SLACK * (1 + size(flow, dense))
    if sigma.slopes == (1.0, 1.0):
        assert sparse.error == 0.0


@pytest.mark.parametrize("form", FORMS)
def test_equivariance_and_symmetry(form: Form) -> None:
    generator = torch.Generator().manual_seed(5)
    flow = flow_of(form, 6, step=0.3)
    a = symmetric(7, generator)
    order = torch.randperm(7, generator=generator)
    stepped = flow.forward_dense(a)
    torch.testing.assert_close(stepped, stepped.T)
    torch.testing.assert_close(flow.forward_dense(a[order][:, order]), stepped[order][:, order])


def test_off_support_bounds_what_is_not_on_the_edges() -> None:
    adjacency = random_adjacency(9, torch.Generator().manual_seed(7))
    with torch.no_grad():
        adjacency = flow_of("l1-inside", 8, Identity(), step=0.3)(adjacency)
    background = adjacency.offset.unsqueeze(1) + adjacency.offset.unsqueeze(0) + adjacency.constant
    assert float(background.abs().sum()) <= adjacency.off_support() + SLACK
    assert adjacency.off_support() > 0


def test_learning_keeps_the_condition() -> None:
    flow = flow_of("l1-inside", 9, step=0.5)
    optimizer = torch.optim.SGD(flow.parameters(), lr=1.0)
    adjacency = random_adjacency(6, torch.Generator().manual_seed(9))
    for _ in range(5):
        optimizer.zero_grad()
        (-flow(adjacency).edge_weight().sum()).backward()
        optimizer.step()
        assert largest_ratio(flow, tries=50) <= 1 + SLACK


def test_errors_say_what_was_expected() -> None:
    with pytest.raises(ValueError, match="form must be one of published, l1-inside"):
        AdjacencyFlow(form="l3")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="alpha must be at most 0, got 1"):
        AdjacencyFlow(alpha=1)
    with pytest.raises(ValueError, match=r"slopes in \[0, 1\]"):
        AdjacencyFlow(activation="group-mcp")
    with pytest.raises(ValueError, match=r"expected a square matrix, got shape \(2, 3\)"):
        AdjacencyFlow().forward_dense(torch.zeros(2, 3))


def test_the_error_follows_a_change_of_norm() -> None:
    """A largest entry of e bounds a sum by n² e: mixing forms keeps the reported error a bound."""
    sparse = random_adjacency(6, torch.Generator().manual_seed(11))
    dense = sparse.dense()
    with torch.no_grad():
        for seed, form in enumerate(("max-outside", "max-outside", "l1-inside")):
            flow = flow_of(form, seed, Tanh(0.1), step=0.3)  # type: ignore[arg-type]
            sparse, dense = flow(sparse), flow.forward_dense(dense)
    assert sparse.norm == "vec-l1"
    assert 0 < float((sparse.dense() - dense).abs().sum()) <= sparse.error
