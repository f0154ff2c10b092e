from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import scipy.sparse as sp

from contractive_gnn.attacks import edge_scores, factored_matrix
from contractive_gnn.attacks.edge_scores import TIE, Best, _Bounds, _Flips, best_edge_flip, leading_directions
from contractive_gnn.attacks.factored_matrix import FactoredMatrix
from contractive_gnn.attacks.likelihood_ratio import DegreeTest
from contractive_gnn.attacks.meta_gradient import InnerTraining, Problem, Weights, linear_meta_gradient, normalise

NODES = 331


@dataclass(frozen=True)
class Case:
    S: sp.csr_array
    degrees: np.ndarray
    adjacency: sp.csr_array
    propagation: FactoredMatrix

    @property
    def alpha(self) -> np.ndarray:
        gamma = self.propagation.block(0, NODES) * self.S.toarray()
        return -(gamma.sum(axis=0) + gamma.sum(axis=1)) / (2 * self.degrees)

    def scores(self, flipped: set[tuple[int, int]], test: DegreeTest | None) -> np.ndarray:
        """The score of every pair by its definition, from dense matrices; −∞ where a flip is not admissible."""
        gamma, A, s = self.propagation.block(0, NODES), self.adjacency.toarray(), self.degrees**-0.5
        scores = (1 - 2 * A) * (s[:, None] * s * (gamma + gamma.T) + self.alpha[:, None] + self.alpha)
        for pair in flipped:
            scores[pair] = 0
        leaf = self.degrees == 2
        scores[(A > 0) & (leaf[:, None] | leaf)] = -np.inf
        if test is not None:
            everything = slice(None)
            u, v = np.indices(A.shape).reshape(2, -1)
            may_remove = test.may_remove(u, v).reshape(A.shape)
            scores[~np.where(A > 0, may_remove, test.may_add(everything, everything))] = -np.inf
        scores[np.tril_indices(NODES)] = -np.inf
        return scores


def make(seed: int, *, lambda_: float = 0.0, train: int = 40, columns: int = 30, sparse: bool = True) -> Case:
    """A meta-gradient on a random graph whose last nodes come in pairs of twins that tie exactly."""
    rng = np.random.default_rng(seed)
    upper = np.triu(rng.random((NODES, NODES)) < 0.01, 1)
    upper |= np.eye(NODES, k=1, dtype=bool)
    X = (rng.random((NODES, columns)) < 0.2).astype(float)
    labels = rng.integers(0, 3, NODES)
    for first in range(NODES - 40, NODES, 2):
        upper[:, first : first + 2] = upper[first : first + 2] = False
        host = rng.integers(0, NODES - 40, 1 + first % 4 // 2)  # every other pair are leaves
        upper[host, first] = upper[host, first + 1] = True
        X[first + 1], labels[first + 1] = X[first], labels[first]
    training = np.sort(rng.choice(NODES - 40, train, replace=False))
    outer = np.full(NODES, (1 - lambda_) / (NODES - train))
    outer[training] = lambda_ / train
    adjacency = sp.csr_array((upper | upper.T).astype(float))
    S, degrees = normalise(adjacency)
    problem = Problem(
        S=S,
        X=sp.csr_array(X) if sparse else X,
        train=training,
        train_labels=labels[training],
        outer_labels=labels,
        outer_weights=outer,
        classes=3,
    )
    weights = Weights(W=rng.uniform(-0.25, 0.25, (columns, 16)), V=rng.uniform(-0.5, 0.5, (16, 3)))
    return Case(S, degrees, adjacency, linear_meta_gradient(problem, weights, InnerTraining(steps=30)).propagation)


def first_of_the_largest(scores: np.ndarray) -> tuple[int, int]:
    entry = divmod(int(np.argmax(scores >= scores.max() - TIE * abs(scores.max()))), NODES)
    return int(entry[0]), int(entry[1])


@pytest.mark.parametrize("compiled", [True, False])
@pytest.mark.parametrize("constrained", [False, True])
@pytest.mark.parametrize("lambda_", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("sparse", [True, False])
def test_the_best_of_few_scores_is_the_best_of_all(lambda_, sparse, constrained, compiled, monkeypatch):
    if compiled:
        pytest.importorskip("numba")
    monkeypatch.setattr(factored_matrix, "numba_is_here", lambda: compiled)
    case = make(0, lambda_=lambda_, sparse=sparse)
    test = DegreeTest(case.degrees - 1, case.degrees - 1, cutoff=5e-4) if constrained else None
    flipped: set[tuple[int, int]] = set()
    for _ in range(15):  # what is best is declared flipped, so that the next best is asked for
        scores = case.scores(flipped, test)
        best = best_edge_flip(case.propagation, case.S, case.degrees, case.adjacency, flipped=flipped, test=test)
        assert best is not None
        assert best[0] == first_of_the_largest(scores)
        assert best[1] == pytest.approx(scores.max(), rel=1e-9)
        flipped ^= {best[0]}


def test_twins_tie_and_the_first_wins():
    twins = {(u, u + 1) for u in range(NODES - 40, NODES, 2)}
    seen = 0
    for seed in range(3):
        case, flipped = make(seed), set()
        for _ in range(40):
            best = best_edge_flip(case.propagation, case.S, case.degrees, case.adjacency, flipped=flipped, test=None)
            assert best is not None
            assert best[0] == first_of_the_largest(case.scores(flipped, None))
            seen += any(set(best[0]) & {*pair} for pair in twins)
            flipped ^= {best[0]}
    assert seen, "no twin was among the best"


@pytest.mark.parametrize(("train", "columns"), [(40, 30), (12, 60), (12, 400)])
def test_few_rows_are_scored(train, columns, monkeypatch):
    monkeypatch.setattr(edge_scores, "ROWS", 32)
    case = make(1, train=train, columns=columns)
    scored: list[int] = []
    original = FactoredMatrix.sum_with_transpose

    def counted(self: FactoredMatrix, nodes: np.ndarray) -> np.ndarray:
        scored.extend(nodes)
        return original(self, nodes)

    monkeypatch.setattr(FactoredMatrix, "sum_with_transpose", counted)
    best = best_edge_flip(case.propagation, case.S, case.degrees, case.adjacency, flipped=set(), test=None)
    assert best is not None
    assert best[0] == first_of_the_largest(case.scores(set(), None))
    assert 0 < len(scored) < NODES / 4
    assert len({*scored}) == len(scored)


@pytest.mark.parametrize("size", [1e-60, 1.0, 1e60])  # float32 has none of the smallest and largest scores
@pytest.mark.parametrize("directions", [1, 4, 24])
def test_bounds_hold(directions, size, monkeypatch):
    monkeypatch.setattr(edge_scores, "DIRECTIONS", directions)
    case = make(2, lambda_=0.3)
    training = case.propagation.training
    assert training is not None
    larger = FactoredMatrix(
        tuple(factored_matrix.Term(size * term.left, term.right) for term in case.propagation.terms),
        (NODES, NODES),
        factored_matrix.TrainingTerm(
            S=case.S, X=training.X, train=training.train, G=size * training.G, two_hops=training.two_hops
        ),
    )
    flipped = {(3, 4), (7, 90)}
    flips = _Flips(case.adjacency, case.degrees, flipped, None)
    bounds = _Bounds(larger, larger.training, case.degrees**-0.5, size * case.alpha)
    scores = size * case.scores(flipped, None)
    scores = np.maximum(scores, scores.T)
    nodes = np.random.default_rng(0).permutation(NODES)
    rows, others = nodes[:50], nodes[:200]
    inside = scores[np.ix_(rows, others)].max(axis=1)
    close, loose = bounds.close(rows, others, flips), bounds.loose(others)[:50]
    assert (close >= inside).all()
    assert (loose >= inside).all()
    assert close.mean() < loose.mean()
    assert sorted(bounds.order) == list(range(NODES))


def test_leading_directions_and_what_they_miss():
    rng = np.random.default_rng(0)
    G = rng.normal(size=(45, 40)) @ np.diag(0.7 ** np.arange(40)) @ rng.normal(size=(40, 50))
    V, A, rest = leading_directions(G)
    missed, sizes = np.linalg.norm(G - A @ V.T, axis=1), np.linalg.norm(G, axis=1)
    assert V.shape[1] < 40
    assert (rest >= missed).all()
    assert (rest <= missed + 1e-5 * sizes).all()
    assert rest.max() < 0.1 * sizes.max()


def test_nothing_leads_where_nothing_is_left():
    V, A, rest = leading_directions(np.zeros((4, 7)))
    assert V.shape == (7, 0)
    assert A.shape == (4, 0)
    assert not rest.any()


def test_of_entries_that_tie_the_first_counts_whatever_the_order():
    rows = np.array([[0, 1, 1 + 1e-12, 1], [1, 0, 3, 0], [0, 3 - 1e-12, 0, 3 + 1e-6], [1, 0, 3 + 1e-6, 0.0]])
    for order in ([0, 1, 2, 3], [3, 2, 1, 0], [2, 0, 3, 1]):
        best = Best(symmetric=False)
        for i in order:
            best.look(rows[[i]], np.array([i]))
        assert best.first() == ((2, 3), 3 + 1e-6)
    best = Best(symmetric=True)
    best.look(rows[[3, 1]], np.array([3, 1]))
    assert best.first() == ((2, 3), 3 + 1e-6)
    best = Best(symmetric=False)
    best.look(rows[[1]] * [1, 1, 1 / 3, 1], np.array([5]))
    assert best.first() == ((5, 0), 1)


def test_there_is_no_best_of_nothing():
    best = Best(symmetric=True)
    best.look(np.full((2, 3), -np.inf), np.array([0, 1]))
    assert best.first() is None
