"""Nettack on edges: the choices of DeepRobust's ``Nettack``, with all candidates of a step scored at once.

For logits Z = S² X W of a linear two-layer GCN, S = D^-½ (A + I) D^-½, a flip of {a, b} changes the logits of the
target u only through the degrees of a and b and through the two entries of A: with z = X W and

    h_k = Σ_{v ∈ N[k]} z_v / √d_v,        √d_u Z_u = Σ_{k ∈ N[u]} h_k / d_k,

(N[k]: k and its neighbours, d counts the self-loop) every candidate costs O(c) once the two sums are known. DeepRobust
goes through the two-hop neighbourhood for each candidate instead.
"""

from __future__ import annotations

from typing import Any, ClassVar, Final

import numpy as np
import scipy.sparse as sp
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch_geometric.data import Data

from contractive_gnn.attacks.base import Attack, Kind, Knowledge, Perturbation, Scope, check_count, register
from contractive_gnn.attacks.factored_matrix import Array, Indices, Sparse
from contractive_gnn.attacks.metattack import train_surrogate
from contractive_gnn.checks import check_real

Single = NDArray[np.float32]
D_MIN: Final = 2


@register
class Nettack(Attack):
    """Greedy flips that lower the margin of the target in a linear two-layer GCN (Nettack).

    Zügner, Akbarnejad, Günnemann, *Adversarial Attacks on Neural Networks for Graph Data* (KDD 2018). Flips that would
    leave a node without edges, or make the degrees look less like the power law that they had, are not considered, and
    it may undo its own flips, so that fewer than the budget remain. It knows the target's label. The surrogate is
    trained once, on the clean graph, from DeepRobust's random numbers. The flips are those of ``nettack-deeprobust``,
    but nodes without edges are no obstacle.

    Args:
        influencers: 0 flips edges of the target itself; k > 0 flips edges of k of its neighbours instead (where it has
            fewer, of further nodes, chosen as in DeepRobust).
        cutoff: of the likelihood-ratio test on the degrees; 0.004 is a p-value of about 0.95.
        seed: see :class:`Attack`.
    """

    name: ClassVar[str] = "nettack"
    kind: ClassVar[Kind] = "structure"
    scope: ClassVar[Scope] = "targeted"
    knowledge: ClassVar[Knowledge] = "transfer"
    packages: ClassVar[tuple[str, ...]] = ("scipy",)

    def __init__(self, *, influencers: int = 0, cutoff: float = 0.004, seed: int = 0) -> None:
        super().__init__(seed=seed)
        self.influencers = check_count("influencers", influencers, least=0)
        check_real("cutoff", cutoff, above=0)
        self.cutoff = cutoff

    def _prepare(self, data: Data) -> None:
        if not bool(data.train_mask.any()):
            raise ValueError(f"attack {self.name!r} trains a surrogate: train_mask selects no node")
        W, V = train_surrogate(data).parameters
        # float32 up to here, as in DeepRobust: the order of close candidates depends on it
        features = sp.csr_array(data.x.numpy(force=True).astype(np.float32))
        self._scores: Array = np.asarray(features @ (W @ V).numpy(), dtype=np.float64)

    def _perturb(self, data: Data, n_flips: int, *, victim: nn.Module | None, targets: Tensor | None) -> Perturbation:
        assert targets is not None
        row, column = data.edge_index.numpy(force=True)
        n = int(data.num_nodes)
        adjacency = sp.csr_array((np.ones(row.size), (row, column)), shape=(n, n))
        target = int(targets)
        margins = _Margins(adjacency, self._scores, target, int(data.y[target]))
        a, b = self._candidates(margins)
        degrees = _DegreeTest(margins.degrees, self.cutoff)
        flipped: set[tuple[int, int]] = set()
        for _ in range(n_flips):
            change = margins.change(a, b)
            stays = (margins.degrees[a] + change > 0) & (margins.degrees[b] + change > 0)
            allowed = np.flatnonzero(stays)
            allowed = allowed[degrees.allows(margins.degrees, a[allowed], b[allowed], change[allowed])]
            if not allowed.size:
                break
            best = int(allowed[np.argmin(margins.after(a[allowed], b[allowed]))])
            u, v = int(a[best]), int(b[best])
            degrees.accept(margins.degrees, u, v, int(change[best]))
            margins.flip(u, v)
            flipped ^= {(min(u, v), max(u, v))}
        return Perturbation(edge_flips=torch.tensor(sorted(flipped), dtype=torch.int64).reshape(-1, 2).t().contiguous())

    def _candidates(self, margins: _Margins) -> tuple[Indices, Indices]:
        """The pairs that may be flipped, in DeepRobust's order: the first of equals wins."""
        n, target = margins.degrees.size, margins.target
        others = np.setdiff1d(np.arange(n), [target])
        if not self.influencers:
            return np.full(n - 1, target), others
        neighbours = np.flatnonzero(margins.linked(target))
        itself = np.full(neighbours.size, target)
        chosen = neighbours
        if neighbours.size >= self.influencers:
            chosen = neighbours[np.argsort(margins.after(itself, neighbours))[: self.influencers]]
        else:
            strangers = np.setdiff1d(others, neighbours)
            order = np.argsort(margins.after(np.full(strangers.size, target), strangers))
            chosen = np.concatenate([neighbours, strangers[order[neighbours.size - self.influencers :]]])
        ends = [np.setdiff1d(others, [node]) for node in chosen]
        return np.repeat(chosen, n - 2), np.concatenate(ends)


class _Margins:
    """The target's margin, its own class against the best other one, and what it would be after each flip."""

    def __init__(self, adjacency: Sparse, scores: Array, target: int, label: int) -> None:
        self._adjacency, self._z, self.target, self._label = adjacency, scores, target, label
        self._update()

    def _update(self) -> None:
        A = self._adjacency
        self.degrees: Array = np.diff(A.indptr).astype(np.float64)  # without the self-loop
        scaled = self._z / np.sqrt(self.degrees + 1)[:, None]
        self._h = A @ scaled + scaled
        near = np.append(A.indices[A.indptr[self.target] : A.indptr[self.target + 1]], self.target)
        self._near = np.zeros(self.degrees.size)  # the indicator of N[u]
        self._near[near] = 1
        weights = self._near / (self.degrees + 1)
        self._sum = weights @ self._h
        self._shared = A @ weights + weights  # Σ_{k ∈ N[u], v ∈ N[k]} 1/d_k for every v

    def linked(self, node: int) -> Array:
        """The row of A."""
        row = np.zeros(self.degrees.size)
        row[self._adjacency.indices[self._adjacency.indptr[node] : self._adjacency.indptr[node + 1]]] = 1
        return row

    def change(self, a: Indices, b: Indices) -> Array:
        """+1 for each pair that is no edge and −1 for each that is one; the pairs of one a stand together."""
        change = np.empty(a.size)
        starts = np.flatnonzero(np.diff(a, prepend=-1))
        for start, stop in zip(starts, [*starts[1:], a.size], strict=True):
            change[start:stop] = 1 - 2 * self.linked(int(a[start]))[b[start:stop]]
        return change

    def after(self, a: Indices, b: Indices) -> Array:
        """The margin after each flip of {a, b}; the pairs of one a stand together, and b is never the target."""
        z, h, near, d = self._z, self._h, self._near, self.degrees + 1
        change = self.change(a, b)[:, None]
        linked = change < 0
        d_a, d_b = d[a][:, None], d[b][:, None]
        n_a, n_b = d_a + change, d_b + change
        z_a, z_b = z[a], z[b]
        moved_a, moved_b = z_a * (n_a**-0.5 - d_a**-0.5), z_b * (n_b**-0.5 - d_b**-0.5)
        # as if the new degrees mattered inside every h, but not the edge nor the weights of h_a and h_b
        total = self._sum + moved_a * self._shared[a][:, None] + moved_b * self._shared[b][:, None]
        h_a, h_b = h[a] + moved_a + linked * moved_b, h[b] + moved_b + linked * moved_a
        new_a, new_b = h_a + change * z_b * n_b**-0.5, h_b + change * z_a * n_a**-0.5
        direct = (a == self.target)[:, None]
        near_a, near_b = near[a][:, None], near[b][:, None]
        after_b = np.where(direct, change > 0, near_b)  # whether b is in N[u] afterwards
        total = total + near_a * (new_a / n_a - h_a / d_a) + after_b * new_b / n_b - near_b * h_b / d_b
        logits = total / np.sqrt(np.where(direct, n_a, d[self.target]))
        others = logits.copy()
        others[:, self._label] -= 1000
        margins: Array = logits[:, self._label] - others.max(axis=1)
        return margins

    def flip(self, u: int, v: int) -> None:
        """Insert or delete the edge."""
        change = 1 - 2 * self._adjacency[u, v]
        both = sp.csr_array(([change, change], ([u, v], [v, u])), shape=self._adjacency.shape)
        self._adjacency = self._adjacency + both
        self._adjacency.eliminate_zeros()
        self._update()


class _DegreeTest:
    """DeepRobust's likelihood-ratio test with its roundings: float32 sums of logarithms, moved along flip by flip.

    The cutoff of 0.004 is not far above what float32 leaves of the ratio, so an exact test
    (:mod:`contractive_gnn.attacks.likelihood_ratio`) would choose differently.
    """

    def __init__(self, degrees: Array, cutoff: float) -> None:
        tail = degrees.astype(np.float32)
        tail = tail[tail >= D_MIN]
        self._cutoff = cutoff
        self._start_sum = self._sum = np.sum(np.log(tail))
        self._start_n = self._n = np.int64(tail.size)
        self._start_likelihood = _log_likelihood(self._start_n, self._start_sum)

    def allows(self, degrees: Array, a: Indices, b: Indices, change: Array) -> NDArray[np.bool_]:
        """Whether each flip passes."""
        sums, n = self._changed(degrees, a, b, change)
        with np.errstate(divide="ignore", invalid="ignore"):
            together = _log_likelihood(n + self._start_n, sums + self._start_sum)
            ratios = -2 * together + 2 * (_log_likelihood(n, sums) + self._start_likelihood)
        passes: NDArray[np.bool_] = ratios < self._cutoff
        return passes

    def accept(self, degrees: Array, a: int, b: int, change: int) -> None:
        """Count a flip that is about to be made."""
        sums, n = self._changed(degrees, np.array([a]), np.array([b]), np.array([change]))
        self._sum, self._n = sums[0], n[0]

    def _changed(self, degrees: Array, a: Indices, b: Indices, change: Array) -> tuple[Single, Indices]:
        old = degrees[np.stack([a, b], axis=1)].astype(np.float32)
        new = old + change.astype(np.float32)[:, None]
        was, will = old >= D_MIN, new >= D_MIN
        sums: Single = (
            self._sum
            - np.log(np.maximum(old * was, np.float32(1))).sum(1)
            + np.log(np.maximum(new * will, np.float32(1))).sum(1)
        )
        n: Indices = self._n - np.sum(was, 1) + np.sum(will, 1)
        return sums, n


def _log_likelihood(n: Any, log_sum: Any) -> Any:
    alpha = n / (log_sum - n * np.log(D_MIN - 0.5)) + 1
    return n * np.log(alpha) + n * alpha * np.log(D_MIN) - (alpha + 1) * log_sum
