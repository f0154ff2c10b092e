from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from torch import Tensor
from torch.nn import functional as F

from contractive_gnn.attacks.contrast import dimension_contrast, sample_contrast
from contractive_gnn.attacks.contrastive_gradient import Contrasted, contrastive_meta_gradient
from contractive_gnn.attacks.edge_scores import best_edge_flip
from contractive_gnn.attacks.meta_gradient import InnerTraining, Problem, Weights, linear_meta_gradient, normalise

NODES, CLASSES, HIDDEN = 50, 3, 8
INNER = InnerTraining(steps=40, lr=0.1, momentum=0.9)


def make(*, features: int = 20, weight: float = 0.7, loss=sample_contrast, outer_loss="cross-entropy", drop=0.3):
    rng = np.random.default_rng(0)
    upper = np.triu(rng.random((NODES, NODES)) < 0.08, 1)
    upper[-1] = upper[:, -1] = False  # an isolated node
    A = (upper | upper.T).astype(float)
    lost = upper & (rng.random((NODES, NODES)) < drop)
    dropped = (lost | lost.T).astype(float)
    X = (rng.random((NODES, features)) < 0.3).astype(float)
    labels = rng.integers(0, CLASSES, NODES)
    train, nodes = (np.sort(part) for part in np.split(rng.permutation(NODES)[:35], [12]))
    outer = np.zeros(NODES)
    outer[np.setdiff1d(np.arange(NODES), train)] = 1 / (NODES - train.size)
    problem = Problem(
        S=normalise(sp.csr_array(A))[0],
        X=sp.csr_array(X),
        train=train,
        train_labels=labels[train],
        outer_labels=labels,
        outer_weights=outer,
        outer_loss=outer_loss,
        classes=CLASSES,
    )
    weights = Weights(W=rng.uniform(-0.5, 0.5, (features, HIDDEN)), V=rng.uniform(-0.5, 0.5, (HIDDEN, CLASSES)))
    return (
        A,
        dropped,
        X,
        problem,
        weights,
        Contrasted(loss=loss, weight=weight, nodes=nodes, dropped=sp.csr_array(dropped)),
    )


def unrolled(A, dropped, X, problem: Problem, weights: Weights, contrasted: Contrasted) -> tuple[float, np.ndarray]:
    """L and ∂L/∂A by autograd through the training, dense and in float64."""
    A, X = torch.from_numpy(A.copy()).requires_grad_(), torch.from_numpy(X)
    labels = torch.from_numpy(problem.outer_labels)

    def normalised(A: Tensor) -> Tensor:
        looped = A + torch.eye(NODES, dtype=torch.float64)
        scale = looped.sum(1).rsqrt()
        return scale[:, None] * looped * scale

    S, viewed = normalised(A), normalised(A * (1 - torch.from_numpy(dropped)))
    parameters = [torch.from_numpy(p.copy()).requires_grad_() for p in (weights.W, weights.V)]
    momenta = [torch.zeros_like(p) for p in parameters]
    nodes = contrasted.nodes
    for _ in range(INNER.steps):
        WV = parameters[0] @ parameters[1]
        scores, others = S @ S @ X @ WV, viewed @ viewed @ X @ WV
        loss = F.cross_entropy(scores[problem.train], labels[problem.train])
        loss = loss + contrasted.weight * contrasted.loss(scores[nodes], others[nodes])
        gradients = torch.autograd.grad(loss, parameters, create_graph=True)
        momenta = [INNER.momentum * p + g for p, g in zip(momenta, gradients, strict=True)]
        parameters = [w - INNER.lr * p for w, p in zip(parameters, momenta, strict=True)]
    logits = S @ S @ X @ parameters[0] @ parameters[1]
    if problem.outer_loss == "probability":
        each = -logits.softmax(dim=1)[torch.arange(NODES), labels]
    else:
        each = F.cross_entropy(logits, labels, reduction="none")
    outer = (each * torch.from_numpy(problem.outer_weights)).sum()
    (by_A,) = torch.autograd.grad(outer, A)
    return outer.item(), (by_A + by_A.T).numpy()


def by_adjacency(S, degrees, result) -> np.ndarray:
    s = degrees**-0.5
    alpha = -result.propagation.marginals(S) / (2 * degrees)
    total = s[:, None] * s * result.propagation.sum_with_transpose(np.arange(NODES)) + alpha[:, None] + alpha
    return total + sum(view.scores(np.arange(NODES)) for view in result.views)


@pytest.mark.parametrize("outer_loss", ["cross-entropy", "probability"])
@pytest.mark.parametrize("loss", [sample_contrast, dimension_contrast])
@pytest.mark.parametrize("features", [20, NODES + 10])  # fewer than nodes, and more
def test_against_autograd(features, loss, outer_loss):
    A, dropped, X, problem, weights, contrasted = make(features=features, loss=loss, outer_loss=outer_loss)
    expected_loss, expected = unrolled(A, dropped, X, problem, weights, contrasted)
    adjacency = sp.csr_array(A)
    S, degrees = normalise(adjacency)
    result = contrastive_meta_gradient(problem, weights, INNER, adjacency, contrasted)
    assert result.loss == pytest.approx(expected_loss, rel=1e-11)
    actual = by_adjacency(S, degrees, result)
    off = ~np.eye(NODES, dtype=bool)
    assert np.abs(actual - expected)[off].max() < 1e-9 * np.abs(expected).max()
    plain = linear_meta_gradient(problem, weights, INNER)
    assert np.abs(by_adjacency(S, degrees, plain) - expected)[off].max() > 0.01 * np.abs(expected).max()

    best = best_edge_flip(result.propagation, S, degrees, adjacency, flipped=set(), test=None, views=result.views)
    assert best is not None
    scores = np.triu((1 - 2 * A) * expected, 1)
    leaf = degrees == 2
    scores[(A > 0) & (leaf[:, None] | leaf)] = -np.inf
    assert best[0] == np.unravel_index(scores.argmax(), scores.shape)
    assert best[1] == pytest.approx(scores.max(), rel=1e-8)


def test_without_weight_it_is_the_plain_meta_gradient():
    A, _, _, problem, weights, contrasted = make(weight=0.0)
    S, degrees = normalise(sp.csr_array(A))
    result = contrastive_meta_gradient(problem, weights, INNER, sp.csr_array(A), contrasted)
    plain = linear_meta_gradient(problem, weights, INNER)
    assert result.loss == pytest.approx(plain.loss, rel=1e-12)
    expected = by_adjacency(S, degrees, plain)
    assert np.abs(by_adjacency(S, degrees, result) - expected).max() < 1e-10 * np.abs(expected).max()


def test_gives_no_derivative_by_features():
    A, _, _, problem, weights, contrasted = make()
    result = contrastive_meta_gradient(problem, weights, INNER, sp.csr_array(A), contrasted)
    with pytest.raises(NotImplementedError, match="attacks on edges"):
        _ = result.features
