from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp

from contractive_gnn.attacks import factored_matrix
from contractive_gnn.attacks.factored_matrix import BLOCK, FactoredMatrix, Term, TrainingTerm

N = BLOCK + 45


@pytest.fixture
def square() -> tuple[FactoredMatrix, np.ndarray]:
    """A matrix with every kind of term that the meta-gradient has, and the same one dense."""
    rng = np.random.default_rng(0)
    rows = np.sort(rng.choice(N, 60, replace=False))
    sparse_left = sp.random_array((60, 9), density=0.2, format="csr", rng=rng)
    sparse_right = sp.random_array((N, 12), density=0.1, format="csr", rng=rng)
    terms = (
        Term(rng.normal(size=(N, 3)), rng.normal(size=(N, 3))),
        Term(sparse_left, rng.normal(size=(N, 9)), rows),
        Term(rng.normal(size=(60, 12)), sparse_right, rows),
    )
    dense = terms[0].left @ terms[0].right.T
    dense[rows] += sparse_left.toarray() @ terms[1].right.T
    dense[rows] += terms[2].left @ sparse_right.toarray().T
    return FactoredMatrix(terms, (N, N)), dense


def symmetric(seed: int) -> sp.csr_array:
    upper = sp.triu(sp.random_array((N, N), density=0.02, rng=np.random.default_rng(seed)))
    return (upper + upper.T).tocsr()


@pytest.mark.parametrize(("start", "stop"), [(0, 1), (0, BLOCK), (BLOCK, N), (17, 200)])
def test_blocks_are_those_of_the_dense_matrix(square, start, stop):
    factored, dense = square
    np.testing.assert_allclose(factored.block(start, stop), dense[start:stop], atol=1e-12)


def test_rows_of_the_sum_with_the_transpose_come_in_any_order(square):
    factored, dense = square
    nodes = np.random.default_rng(1).permutation(N)[:70]
    np.testing.assert_allclose(factored.sum_with_transpose(nodes), (dense + dense.T)[nodes], atol=1e-12)


def test_marginals_sum_over_the_non_zeros_of_s_only(square):
    factored, dense = square
    S = symmetric(1)
    masked = dense * S.toarray()
    np.testing.assert_allclose(factored.marginals(S), masked.sum(axis=0) + masked.sum(axis=1), atol=1e-12)


def test_rectangular_blocks():
    rng = np.random.default_rng(3)
    left, right = sp.random_array((N, 20), density=0.1, format="csr", rng=rng), rng.normal(size=(7, 20))
    factored = FactoredMatrix((Term(left, right),), (N, 7))
    np.testing.assert_allclose(factored.block(10, N), (left @ right.T)[10:], atol=1e-12)


@pytest.mark.parametrize("compiled", [True, False])
@pytest.mark.parametrize("sparse", [True, False])
def test_the_training_term_is_that_of_the_dense_matrices(sparse, compiled, monkeypatch):
    if compiled:
        pytest.importorskip("numba")
    monkeypatch.setattr(factored_matrix, "numba_is_here", lambda: compiled)
    rng = np.random.default_rng(4)
    S, G = symmetric(2), rng.normal(size=(20, 15))
    train = np.sort(rng.choice(N, 20, replace=False))
    X = rng.random((N, 15)) * (rng.random((N, 15)) < 0.3)
    term = TrainingTerm(S=S, X=sp.csr_array(X) if sparse else X, train=train, G=G, two_hops=(S @ S[:, train]).tocsr())
    dense = np.zeros((N, N))
    dense[train] = G @ (S.toarray() @ X).T
    dense += S.toarray()[:, train] @ G @ X.T
    masked = dense * S.toarray()
    nodes = rng.permutation(N)[:40]
    np.testing.assert_allclose(term.rows(nodes), dense[nodes], atol=1e-12)
    np.testing.assert_allclose(term.columns(nodes), dense[:, nodes], atol=1e-12)
    np.testing.assert_allclose(term.marginals(), masked.sum(axis=0) + masked.sum(axis=1), atol=1e-12)
    whole = FactoredMatrix((), (N, N), term)
    np.testing.assert_allclose(whole.block(3, 40), dense[3:40], atol=1e-12)
    np.testing.assert_allclose(whole.sum_with_transpose(nodes), (dense + dense.T)[nodes], atol=1e-12)
