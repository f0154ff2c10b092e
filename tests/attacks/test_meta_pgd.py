from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from torch.nn import functional as F
from torch_geometric.data import Data
from torch_geometric.utils import to_undirected

from contractive_gnn.attacks import AttackError, Budget, get
from contractive_gnn.attacks.base import undirected_edges
from contractive_gnn.attacks.factored_matrix import FactoredMatrix, Term, TrainingTerm
from contractive_gnn.attacks.meta_gradient import InnerTraining, Problem, Weights, normalise
from contractive_gnn.attacks.meta_pgd import TrainedFlips
from contractive_gnn.attacks.metattack import adjacency_of
from contractive_gnn.nn import GCNClassifier
from contractive_gnn.training import fit

INNER = InnerTraining(steps=30)


def flips_of(data: Data, *, hidden: int = 4) -> tuple[TrainedFlips, Problem, Weights]:
    rng = np.random.default_rng(0)
    train = data.train_mask.nonzero().flatten().numpy()
    problem = Problem(
        S=normalise(adjacency_of(data))[0],
        X=sp.csr_array(data.x.numpy().astype(float)),
        train=train,
        train_labels=data.y.numpy()[train],
        outer_labels=data.y.numpy(),
        outer_weights=np.ones(data.num_nodes),
        classes=3,
    )
    columns = data.x.shape[1]
    weights = Weights(W=rng.uniform(-0.5, 0.5, (columns, hidden)), V=rng.uniform(-0.5, 0.5, (hidden, 3)))
    flips = TrainedFlips(problem, weights, INNER, data.x.double(), undirected_edges(data.edge_index), candidates=200)
    return flips, problem, weights


@pytest.mark.parametrize("columns", [40, 12, 120])  # more than training nodes, fewer, more than nodes
def test_the_slope_is_that_of_autograd(make_graph, columns):
    data = make_graph(columns=columns)
    torch.manual_seed(0)
    flips, problem, weights = flips_of(data)
    p = torch.rand(flips.size, dtype=torch.float64) * (torch.rand(flips.size) < 0.3)

    def dense(p: torch.Tensor) -> torch.Tensor:
        """The scores after training, on a dense matrix."""
        weight = torch.where(flips.present, 1 - p, p)
        upper = torch.zeros(90, 90, dtype=torch.float64).index_put(tuple(flips.pairs), weight)
        A = upper + upper.T + torch.eye(90, dtype=torch.float64)
        scale = A.sum(1).rsqrt()
        S = scale[:, None] * A * scale
        W, V = (torch.from_numpy(w.copy()).requires_grad_() for w in (weights.W, weights.V))
        pW, pV = torch.zeros_like(W), torch.zeros_like(V)
        for _ in range(INNER.steps):
            loss = F.cross_entropy((S @ S @ data.x.double() @ W @ V)[problem.train], data.y[problem.train])
            gW, gV = torch.autograd.grad(loss, (W, V), create_graph=True)
            pW, pV = INNER.momentum * pW + gW, INNER.momentum * pV + gV
            W, V = W - INNER.lr * pW, V - INNER.lr * pV
        return S @ S @ data.x.double() @ W @ V

    read = torch.rand(90, 3, dtype=torch.float64)
    slopes = []
    for scores in (dense, flips.relaxed):
        q = p.clone().requires_grad_()
        found = scores(q)
        slopes.append((found.detach(), torch.autograd.grad((found * read).sum(), q)[0]))
    (expected, slope), (actual, ours) = slopes
    assert (actual - expected).abs().max() < 1e-10 * expected.abs().max()
    assert (ours - slope).abs().max() < 1e-9 * slope.abs().max()


def test_discrete_flips_are_relaxed_flips_of_0_and_1(graph):
    flips, _, _ = flips_of(graph)
    chosen = flips.draw(20)
    torch.testing.assert_close(flips.done(chosen), flips.relaxed(chosen.double()), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("rows", [None, np.array([1, 4, 8])])
def test_entries_are_those_of_the_rows(rows):
    rng = np.random.default_rng(2)
    k = 12 if rows is None else rows.size
    S = sp.random_array((12, 12), density=0.4, format="csr", rng=rng)
    S = (S + S.T).tocsr()
    train = np.array([0, 3, 7])
    training = TrainingTerm(
        S=S,
        X=sp.random_array((12, 5), density=0.5, format="csr", rng=rng),
        train=train,
        G=rng.random((3, 5)),
        two_hops=(S @ S[:, train]).tocsr(),
    )
    matrix = FactoredMatrix((Term(rng.random((k, 2)), rng.random((12, 2)), rows),), (12, 12), training)
    whole = matrix.block(0, 12)
    u, v = (part.ravel() for part in np.indices((12, 12)))
    np.testing.assert_allclose(matrix.sum_at(u, v), (whole + whole.T).ravel(), rtol=1e-12)


def accuracy_after(data: Data) -> float:
    right = []
    for seed in range(3):
        model = GCNClassifier(data.x.shape[1], 3)
        fit(model, data, seed=seed, epochs=60)
        scores = model.eval()(data.x, data.edge_index)
        right.append(float((scores.argmax(dim=1) == data.y)[data.test_mask].float().mean()))
    return float(np.mean(right))


QUICK = {"epochs": 25, "fine_epochs": 5, "swaps": 5, "samples": 2, "train_iters": 50, "block_size": 1000}


def test_does_more_harm_than_random_flips(graph):
    budget = Budget(flips=40)
    poisoned = get("meta-pgd", **QUICK).run(graph, budget)
    assert 0 < poisoned.n_flips <= 40
    assert accuracy_after(poisoned.data) < accuracy_after(get("random").run(graph, budget).data) - 0.1


def test_keeps_to_its_seed(graph):
    quick = {**QUICK, "epochs": 4}
    one, two = (get("meta-pgd", seed=3, **quick).run(graph, Budget(flips=5)).edge_flips for _ in range(2))
    assert torch.equal(one, two)


def test_memory_is_linear_in_edges_and_block():
    n, generator = 4000, torch.Generator().manual_seed(0)
    ring = torch.arange(n)
    edges = torch.cat([torch.stack([ring, (ring + 1) % n]), torch.randint(0, n, (2, n), generator=generator)], dim=1)
    edges = edges[:, edges[0] != edges[1]]
    masks = [torch.zeros(n, dtype=torch.bool) for _ in range(3)]
    for mask, part in zip(masks, torch.randperm(n, generator=generator).split([40, 40, n - 80]), strict=True):
        mask[part] = True
    data = Data(
        x=torch.rand(n, 8, generator=generator),
        edge_index=to_undirected(edges, num_nodes=n),
        y=torch.arange(n) % 3,
        train_mask=masks[0],
        val_mask=masks[1],
        test_mask=masks[2],
    )
    attack = get("meta-pgd", self_training_labels=data.y, **{**QUICK, "epochs": 2, "train_iters": 10})
    tracemalloc.start()
    try:
        attack.run(data, Budget(flips=20))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 0.25 * n * n * 4  # a quarter of one dense matrix in float32; NumPy reports to tracemalloc


@pytest.mark.parametrize(
    ("hyperparameters", "text"),
    [({"loss": "hinge"}, "loss is one of"), ({"step": 0.0}, "step must be positive"), ({"epochs": 0}, "at least 1")],
)
def test_refuses_hyperparameters(hyperparameters, text):
    with pytest.raises(ValueError, match=text):
        get("meta-pgd", **hyperparameters)


@pytest.mark.filterwarnings("ignore:overflow:RuntimeWarning", "ignore:invalid value:RuntimeWarning")
def test_says_so_where_the_inner_training_diverges(graph):
    with pytest.raises(AttackError, match="the inner training diverged; lower lr"):
        get("meta-pgd", lr=1e300).run(graph, Budget(flips=1))


def test_a_graph_of_one_class_is_refused(graph):
    graph.y = torch.zeros_like(graph.y)
    with pytest.raises(ValueError, match="at least two classes"):
        get("meta-pgd", **QUICK).run(graph, Budget(flips=1))


def test_no_labels_at_all_are_refused(graph):
    with pytest.raises(ValueError, match="has 0 entries; this graph has 90 nodes"):
        get("meta-pgd", self_training_labels=torch.empty(0, dtype=torch.int64)).run(graph, Budget(flips=1))
