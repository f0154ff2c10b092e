from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from torch import Tensor
from torch.nn import functional as F

from contractive_gnn.attacks import factored_matrix, meta_gradient
from contractive_gnn.attacks.meta_gradient import (
    Gram,
    InnerTraining,
    Problem,
    Weights,
    general_meta_gradient,
    linear_meta_gradient,
    normalise,
)

INNER = InnerTraining(steps=100, lr=0.1, momentum=0.9)
CLASSES, HIDDEN, FEATURES, NODES = 3, 16, 30, 60


@dataclass(frozen=True)
class Case:
    A: np.ndarray
    X: np.ndarray
    problem: Problem
    degrees: np.ndarray
    weights: Weights


def make(
    *,
    training_nodes: int,
    lambda_: float,
    bias: bool = False,
    sparse: bool = True,
    seed: int = 0,
    features: int = FEATURES,
    outer_loss: str = "cross-entropy",
) -> Case:
    rng = np.random.default_rng(seed)
    upper = np.triu(rng.random((NODES, NODES)) < 0.05, 1)
    upper[-1] = upper[:, -1] = False  # an isolated node
    A = (upper | upper.T).astype(float)
    X = (rng.random((NODES, features)) < 0.2).astype(float)
    labels = rng.integers(0, CLASSES, NODES)
    train = np.sort(rng.choice(NODES, training_nodes, replace=False))
    others = np.setdiff1d(np.arange(NODES), train)
    outer = np.zeros(NODES)
    outer[train] = lambda_ / train.size
    outer[others] = (1 - lambda_) / others.size
    S, degrees = normalise(sp.csr_array(A))
    problem = Problem(
        S=S,
        X=sp.csr_array(X) if sparse else X,
        train=train,
        train_labels=labels[train],
        outer_labels=labels,
        outer_weights=outer,
        outer_loss=outer_loss,
        classes=CLASSES,
    )
    weights = Weights(
        W=rng.uniform(-0.25, 0.25, (features, HIDDEN)),
        V=rng.uniform(-0.5, 0.5, (HIDDEN, CLASSES)),
        b=rng.uniform(-0.5, 0.5, HIDDEN) if bias else None,
        c=rng.uniform(-0.5, 0.5, CLASSES) if bias else None,
    )
    return Case(A, X, problem, degrees, weights)


def unrolled(case: Case, inner: InnerTraining, *, relu: bool) -> tuple[float, np.ndarray, np.ndarray]:
    """L, ∂L/∂A and ∂L/∂X by autograd through the training, dense and in float64: nothing is shared with the module."""
    problem = case.problem
    A = torch.from_numpy(case.A.copy()).requires_grad_()
    X = torch.from_numpy(case.X.copy()).requires_grad_()
    looped = A + torch.eye(NODES, dtype=torch.float64)
    scale = looped.sum(1).rsqrt()
    S = scale[:, None] * looped * scale
    initial = (case.weights.W, case.weights.V, case.weights.b, case.weights.c)
    parameters = [torch.from_numpy(p.copy()).requires_grad_() for p in initial if p is not None]

    def logits(parameters: list[Tensor]) -> Tensor:
        W, V, *biases = parameters
        U = S @ X @ W
        if biases:
            U = U + biases[0]
        Z = S @ (U.relu() if relu else U) @ V
        return Z + biases[1] if biases else Z

    momenta = [torch.zeros_like(p) for p in parameters]
    for _ in range(inner.steps):
        loss = F.cross_entropy(logits(parameters)[problem.train], torch.from_numpy(problem.train_labels))
        gradients = torch.autograd.grad(loss, parameters, create_graph=True)
        momenta = [inner.momentum * p + g for p, g in zip(momenta, gradients, strict=True)]
        parameters = [w - inner.lr * p for w, p in zip(parameters, momenta, strict=True)]
    labels = torch.from_numpy(problem.outer_labels)
    if problem.outer_loss == "probability":
        each = -logits(parameters).softmax(dim=1)[torch.arange(NODES), labels]
    else:
        each = F.cross_entropy(logits(parameters), labels, reduction="none")
    outer = (each * torch.from_numpy(problem.outer_weights)).sum()
    by_A, by_X = torch.autograd.grad(outer, [A, X])
    return outer.item(), by_A.numpy(), by_X.numpy()


def by_adjacency(case: Case, propagation) -> np.ndarray:
    """∂L/∂A of an undirected entry, from ∂L/∂S."""
    gradient = propagation.block(0, NODES)
    s = case.degrees**-0.5
    through_degrees = -propagation.marginals(case.problem.S) / (2 * case.degrees)
    return s[:, None] * s * (gradient + gradient.T) + through_degrees[:, None] + through_degrees


def assert_close(actual: np.ndarray, expected: np.ndarray) -> None:
    assert np.abs(actual - expected).max() < 1e-10 * np.abs(expected).max()


@pytest.mark.parametrize("sparse", [True, False])
@pytest.mark.parametrize("lambda_", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("training_nodes", [10, 45])  # fewer than features: in m dimensions; more: in weight space
@pytest.mark.parametrize("compiled", [True, False])
def test_linear_surrogate_against_autograd(training_nodes, lambda_, sparse, compiled, monkeypatch):
    if compiled:
        pytest.importorskip("numba")
    for module in (meta_gradient, factored_matrix):
        monkeypatch.setattr(module, "numba_is_here", lambda: compiled)
    case = make(training_nodes=training_nodes, lambda_=lambda_, sparse=sparse)
    loss, by_A, by_X = unrolled(case, INNER, relu=False)
    result = linear_meta_gradient(case.problem, case.weights, INNER)
    assert result.loss == pytest.approx(loss, rel=1e-12)
    assert_close(by_adjacency(case, result.propagation), by_A + by_A.T)
    assert_close(result.features.block(0, NODES), by_X)


@pytest.mark.parametrize("sparse", [True, False])
@pytest.mark.parametrize("compiled", [True, False])
def test_more_features_than_nodes_against_autograd(compiled, sparse, monkeypatch):
    if compiled:
        pytest.importorskip("numba")
    for module in (meta_gradient, factored_matrix):
        monkeypatch.setattr(module, "numba_is_here", lambda: compiled)
    case = make(training_nodes=10, lambda_=0.0, sparse=sparse, features=NODES + 20)
    _, by_A, by_X = unrolled(case, INNER, relu=False)
    result = linear_meta_gradient(case.problem, case.weights, INNER)
    assert_close(by_adjacency(case, result.propagation), by_A + by_A.T)
    assert_close(result.features.block(0, NODES), by_X)


@pytest.mark.parametrize("training_nodes", [10, 45])
@pytest.mark.parametrize("relu", [None, True])
def test_the_probability_as_outer_loss_against_autograd(training_nodes, relu):
    case = make(training_nodes=training_nodes, lambda_=0.2, outer_loss="probability")
    loss, by_A, by_X = unrolled(case, INNER, relu=bool(relu))
    if relu is None:
        result = linear_meta_gradient(case.problem, case.weights, INNER)
    else:
        result = general_meta_gradient(case.problem, case.weights, INNER, relu=relu)
    assert result.loss == pytest.approx(loss, rel=1e-12)
    assert result.loss < 0
    assert_close(by_adjacency(case, result.propagation), by_A + by_A.T)
    assert_close(result.features.block(0, NODES), by_X)


@pytest.mark.parametrize("sparse", [True, False])
@pytest.mark.parametrize(("relu", "bias"), [(False, False), (False, True), (True, False), (True, True)])
def test_general_surrogate_against_autograd(relu, bias, sparse):
    case = make(training_nodes=12, lambda_=0.3, bias=bias, sparse=sparse, seed=1)
    loss, by_A, by_X = unrolled(case, INNER, relu=relu)
    result = general_meta_gradient(case.problem, case.weights, INNER, relu=relu)
    assert result.loss == pytest.approx(loss, rel=1e-12)
    assert_close(by_adjacency(case, result.propagation), by_A + by_A.T)
    assert_close(result.features.block(0, NODES), by_X)


@pytest.mark.parametrize("inner", [InnerTraining(steps=1), InnerTraining(steps=20, lr=0.5, momentum=0.0)])
@pytest.mark.parametrize("training_nodes", [10, 45])
def test_other_inner_trainings_against_autograd(inner, training_nodes):
    case = make(training_nodes=training_nodes, lambda_=0.0)
    _, by_A, _ = unrolled(case, inner, relu=False)
    assert_close(by_adjacency(case, linear_meta_gradient(case.problem, case.weights, inner).propagation), by_A + by_A.T)


def test_the_two_implementations_agree_where_both_apply():
    case = make(training_nodes=10, lambda_=0.0)
    linear = linear_meta_gradient(case.problem, case.weights, INNER)
    general = general_meta_gradient(case.problem, case.weights, INNER, relu=False)
    assert linear.loss == pytest.approx(general.loss, rel=1e-12)
    assert_close(linear.propagation.block(0, NODES), general.propagation.block(0, NODES))
    assert_close(linear.features.block(0, NODES), general.features.block(0, NODES))


def test_normalise_counts_the_self_loop():
    S, degrees = normalise(sp.csr_array(np.array([[0.0, 1, 0], [1, 0, 0], [0, 0, 0]])))
    np.testing.assert_array_equal(degrees, [2, 2, 1])
    np.testing.assert_allclose(S.toarray(), [[0.5, 0.5, 0], [0.5, 0.5, 0], [0, 0, 1]])


def test_the_gram_matrix_follows_the_rows_that_change():
    rng = np.random.default_rng(0)
    gram, B = Gram(), rng.random((6, 9))
    np.testing.assert_allclose(gram.of(B), B @ B.T, rtol=1e-15)
    changed = B.copy()
    changed[[1, 4]] = rng.random((2, 9))
    np.testing.assert_allclose(gram.of(changed), changed @ changed.T, rtol=1e-14)
    np.testing.assert_allclose(gram.of(rng.random((3, 9)).round(1)).shape, (3, 3))


def test_the_products_with_the_features_follow_the_rows_that_change():
    rng = np.random.default_rng(1)
    gram, B, X = Gram(), rng.random((6, 9)), sp.random_array((12, 9), density=0.4, format="csr", rng=rng)
    gram.of(B)
    np.testing.assert_allclose(gram.along(B, X), B @ X.T.toarray(), rtol=1e-14)
    for rows in ([1, 4], [0]):  # the second time without a look at the products in between
        B = B.copy()
        B[rows] = rng.random((len(rows), 9))
        gram.of(B)
    np.testing.assert_allclose(gram.along(B, X), B @ X.T.toarray(), rtol=1e-14)
    other = sp.csr_array(X.toarray()[:5] + 1)
    np.testing.assert_allclose(gram.along(B, other), B @ other.T.toarray(), rtol=1e-14)
    np.testing.assert_allclose(gram.along(B[:2], X), B[:2] @ X.T.toarray(), rtol=1e-14)
