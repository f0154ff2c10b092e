from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from scipy.sparse.linalg import svds
from torch import Tensor

from contractive_gnn.nn.similarity import Similarity, principal_axes


def columns_of_one_value(*, classes: int = 4, columns: int = 20, nodes: int = 120) -> Tensor:
    """One feature a node, of columns that are each equally popular among some others: whole runs of singular values."""
    generator = torch.Generator().manual_seed(0)
    y = torch.arange(nodes) % classes
    word = y * (columns // classes) + torch.randint(0, columns // classes, (nodes,), generator=generator)
    return torch.nn.functional.one_hot(word, columns).double()


def rows_with(values: list[float], *, n: int, d: int) -> tuple[sp.csr_matrix, np.ndarray]:
    """Rows ``[n, d]`` with these singular values, and their right singular vectors."""
    rng = np.random.default_rng(0)
    left, right = (np.linalg.qr(rng.normal(size=(size, len(values))))[0] for size in (n, d))
    return sp.csr_matrix((left * values) @ right.T), right


@pytest.mark.parametrize(("n", "d"), [(30, 20), (20, 30)])
@pytest.mark.parametrize(
    ("values", "kept"),
    [
        ([5.0, 4.0, 3.0, 2.0, 1.0, 0.5, 0.4, 0.3, 0.2], 4),  # no tie: the cut stays
        ([5.0, 4.0, 2.0, 2.0, 2.0, 0.5, 0.4, 0.3, 0.2], 2),  # the last gap before the tie
        ([5.0, 4.0, 3.0, 2.0, 2.0 - 1e-9, 0.5, 0.4, 0.3, 0.2], 3),  # what rounding cannot tell apart is a tie
        ([5.0, 4.0, 3.0, 2.0, 1.9999, 0.5, 0.4, 0.3, 0.2], 4),
        ([2.0] * 9, None),  # no gap: all features are taken
    ],
)
def test_the_rank_is_cut_at_a_gap(n: int, d: int, values: list[float], kept: int | None) -> None:
    rows, right = rows_with(values, n=n, d=d)
    start = np.random.default_rng(0).normal(size=min(n, d))
    _, found, vectors = svds(rows, k=4, v0=start)
    tied = principal_axes._tied(found.min(), principal_axes._next_value(rows, vectors, start))
    assert tied == (kept != 4)
    if tied:
        axes = principal_axes._above_the_gap(rows, found, vectors)
        assert (axes is None) == (kept is None)
        if axes is not None:
            expected = right[:, :kept]
            np.testing.assert_allclose(axes @ axes.T, expected @ expected.T, atol=1e-9)


def test_a_rank_beyond_that_of_the_features_is_no_tie() -> None:
    x = columns_of_one_value()[:, [0, 5, 10] * 6]  # three features, six times each
    axes, _ = principal_axes.principal_axes(sp.csr_matrix(x.numpy()), 5)
    assert axes is not None
    assert axes.shape == (18, 5)


@pytest.mark.parametrize(("n", "d", "rank"), [(40, 40, 7), (300, 60, 20), (90, 8, 7), (50, 6, 9)])
def test_the_squares_have_the_same_axes(n: int, d: int, rank: int) -> None:
    x = torch.rand(n, d, generator=torch.Generator().manual_seed(0)) * torch.arange(1.0, d + 1)
    x[x < 0.2] = 0.0
    axes, idf = principal_axes.axes_of_squares(x, rank)
    expected, expected_idf = principal_axes.principal_axes(sp.csr_matrix(x.double().numpy()), rank)
    torch.testing.assert_close(idf, expected_idf)
    assert (axes is None) == (expected is None)
    if axes is not None and expected is not None:
        assert axes.shape == (d, rank)
        torch.testing.assert_close(axes @ axes.T, expected @ expected.T, atol=1e-7, rtol=0)


def test_the_squares_are_cut_at_the_same_gap(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(principal_axes, "_BLOCK", 100)  # several blocks
    x = columns_of_one_value()
    rows = sp.csr_matrix(x.numpy())
    for rank in (3, 7, 12):
        axes, _ = principal_axes.axes_of_squares(x, rank)
        expected, _ = principal_axes.principal_axes(rows, rank)
        assert (axes is None) == (expected is None)
        if axes is not None and expected is not None:
            torch.testing.assert_close(axes @ axes.T, expected @ expected.T, atol=1e-7, rtol=0)


@pytest.mark.parametrize(("n", "d"), [(30, 60), (60, 30)])
@pytest.mark.parametrize("layout", [torch.strided, torch.sparse_csr])
def test_features_of_nothing_but_zeros_tell_nothing(n: int, d: int, layout: torch.layout) -> None:
    x = torch.zeros(n, d) if layout == torch.strided else torch.zeros(n, d).to_sparse_csr()
    ring = torch.stack([torch.arange(n), torch.arange(n).roll(1)])
    weights = Similarity(rank=8)(x, torch.cat([ring, ring.flip(0)], dim=1))
    assert weights.tolist() == [0.0] * (2 * n)
