r"""Randomised smoothing for sparse binary data, as a baseline for certificates of a whole graph.

Bojchevski, Klicpera and Günnemann (*Efficient robustness certificates for discrete data*, ICML 2020). The smoothed
classifier predicts what the base one says most often when every 0 becomes 1 with probability p₊ and every 1 becomes 0
with probability p₋. If the base one says y with probability at least p around the clean data, then around data with
``r_a`` flips 0 → 1 and ``r_d`` flips 1 → 0 it says y with probability at least

.. math::
    \rho = \min_{h} \sum_i h_i \tilde q_i \quad\text{such that}\quad \sum_i h_i q_i = p,\; 0 \le h_i \le 1

over the regions of constant likelihood ratio, of which there are r_a + r_d + 1. y is certified where ρ > 1/2. The
probability p is bounded from below by Clopper and Pearson, so that the certificate holds with a confidence.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import beta, binom
from torch import Tensor

from contractive_gnn.inputs import undirected


@dataclass(frozen=True)
class SparseNoise:
    """Independent flips of binary entries.

    Attributes:
        add: p₊, the probability that a 0 becomes 1.
        delete: p₋, the probability that a 1 becomes 0.

    Raises:
        ValueError: a probability outside [0, 1).

    Example:
        >>> triangle = torch.tensor([[0, 0, 1, 1, 2, 2], [1, 2, 0, 2, 0, 1]])
        >>> noise = SparseNoise(add=0.0, delete=0.5)
        >>> noise.edges(triangle, 3, generator=torch.Generator().manual_seed(0)).shape[1] % 2  # both directions
        0
    """

    add: float
    delete: float

    def __post_init__(self) -> None:
        if not (0 <= self.add < 1 and 0 <= self.delete < 1):
            raise ValueError(f"expected probabilities in [0, 1), got add={self.add!r}, delete={self.delete!r}")

    def edges(self, edge_index: Tensor, num_nodes: int, *, generator: torch.Generator) -> Tensor:
        """A noisy graph ``[2, E']``: every pair of nodes is an entry, and changes independently of all others.

        How many pairs the noise of the additions picks is drawn from the binomial distribution itself, by NumPy's
        rejection method in double precision, and then which ones they are: all sets of that size are as likely.

        Args:
            edge_index: the clean graph, both orientations of every edge once.
            num_nodes: n.
            generator: of the noise.

        Raises:
            InputError: a graph that is not simple and undirected.
        """
        edge_index = undirected(torch.empty(num_nodes, 0), edge_index, weighted=False).edge_index
        pairs = edge_index[:, edge_index[0] < edge_index[1]]
        present = pairs[0] * num_nodes + pairs[1]
        kept = present[torch.rand(present.numel(), generator=generator, dtype=torch.float64) >= self.delete]
        entries = num_nodes * (num_nodes - 1) // 2
        seed = int(torch.randint(0, 2**63 - 1, (), generator=generator))
        count = int(np.random.default_rng(seed).binomial(entries, self.add))
        picked = _distinct_pairs(count, num_nodes, generator)
        key = torch.cat([kept, picked[~torch.isin(picked, present)]])
        both = torch.stack([key // num_nodes, key % num_nodes])
        return torch.cat([both, both.flip(0)], dim=1)


def _distinct_pairs(count: int, n: int, generator: torch.Generator) -> Tensor:
    """``count`` different pairs i < j, uniformly, as ``i n + j``."""
    found = torch.zeros(0, dtype=torch.long)
    while found.numel() < count:
        more = torch.randint(0, n, (2, 2 * (count - found.numel()) + 8), generator=generator).sort(dim=0).values
        more = more[:, more[0] < more[1]]
        found = torch.unique(torch.cat([found, more[0] * n + more[1]]))
    return found[torch.randperm(found.numel(), generator=generator)[:count]]


def regions(noise: SparseNoise, *, added: int, deleted: int) -> NDArray[np.float64]:
    r"""The regions of constant likelihood ratio for ``added`` flips 0 → 1 and ``deleted`` flips 1 → 0.

    Of the entries where the clean x and the perturbed x̃ differ, let the noise on x have flipped q. Then the likelihood
    ratio is ``(p₊/(1 − p₋))^{q − r_d} (p₋/(1 − p₊))^{q − r_a}``, and q is a sum of two binomials on either side.

    Returns:
        ``[r_a + r_d + 1, 2]``, the probabilities of each region around x and around x̃, by falling ratio of the first
        to the second.

    Raises:
        ValueError: a negative number of flips.
    """
    if added < 0 or deleted < 0:
        raise ValueError(f"expected numbers of flips of at least 0, got added={added!r}, deleted={deleted!r}")
    # around x: q = Bin(r_a, p₊) + Bin(r_d, p₋) entries leave x; around x̃ the entries that keep away from x are counted
    clean = np.convolve(
        binom.pmf(np.arange(added + 1), added, noise.add), binom.pmf(np.arange(deleted + 1), deleted, noise.delete)
    )
    perturbed = np.convolve(
        binom.pmf(np.arange(added + 1), added, 1 - noise.delete),
        binom.pmf(np.arange(deleted + 1), deleted, 1 - noise.add),
    )
    both: NDArray[np.float64] = np.stack([clean, perturbed], axis=1)
    both = both[both.sum(axis=1) > 0]
    with np.errstate(divide="ignore"):
        ratio = np.log(both[:, 0]) - np.log(both[:, 1])
    order = np.argsort(-ratio, kind="stable")
    return np.asarray(both[order], dtype=np.float64)


def least_probability(noise: SparseNoise, probability: float, *, added: int, deleted: int) -> float:
    """ρ: the least probability of the class within the radius, if on the clean data it has at least ``probability``.

    Args:
        noise: of the smoothing.
        probability: lower bound p on the clean data.
        added: r_a.
        deleted: r_d.

    Raises:
        ValueError: a probability outside [0, 1].
    """
    if not 0 <= probability <= 1:
        raise ValueError(f"expected a probability, got {probability!r}")
    left, total = probability, 0.0
    for clean, perturbed in regions(noise, added=added, deleted=deleted):
        taken = min(clean, left)
        total += perturbed * (taken / clean) if clean > 0 else 0.0
        left -= taken
        if left <= 0:
            break
    return float(total)


def lower_confidence(hits: Tensor, samples: int, *, alpha: float) -> Tensor:
    """Clopper and Pearson's lower bound of a probability from ``hits`` of ``samples``, at confidence 1 − alpha.

    Raises:
        ValueError: hits that are not between 0 and ``samples``, or an alpha outside (0, 1).
    """
    if not 0 < alpha < 1:
        raise ValueError(f"alpha must lie between 0 and 1, got {alpha!r}")
    counts = hits.double().numpy()
    if not bool(((counts >= 0) & (counts <= samples)).all()):
        raise ValueError(f"expected from 0 to {samples} hits, got {counts.min():g} to {counts.max():g}")
    return torch.from_numpy(np.where(counts > 0, beta.ppf(alpha, counts, samples - counts + 1), 0.0))


def certified_within(noise: SparseNoise, probability: Tensor, *, added: int, deleted: int) -> Tensor:
    """Which lower bounds of the top class's probability stay beyond 1/2 within the radius, bool like ``probability``.

    ρ grows with p: it is enough to find the p at which it crosses 1/2.
    """
    low, high = 0.5, 1.0
    if least_probability(noise, 1.0, added=added, deleted=deleted) <= 0.5:
        return torch.zeros(probability.shape, dtype=torch.bool)
    for _ in range(60):
        middle = (low + high) / 2
        enough = least_probability(noise, middle, added=added, deleted=deleted) > 0.5
        low, high = (low, middle) if enough else (middle, high)
    return probability >= high
