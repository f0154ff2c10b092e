r"""A certificate for any model: randomised smoothing over the edges.

The smoothed classifier says what the model says most often on noisy graphs
(:mod:`contractive_gnn.certificates.smoothing`, Bojchevski, Klicpera and Günnemann, ICML 2020). Of the model nothing
is asked but that its answer is a function of the features and the edges that it is given: no layer may keep a graph.
What is certified is the smoothed classifier's prediction, not the model's own, with a confidence, and for a number of
flips in the whole graph: noise that hides one flip at each of n nodes would hide the graph.
"""

from __future__ import annotations

import time
from contextlib import closing
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch_geometric.data import Data

from contractive_gnn import inputs
from contractive_gnn.certificates.smoothing import SparseNoise, certified_within, lower_confidence
from contractive_gnn.checks import check_flag, check_real, check_whole
from contractive_gnn.nn.caches import reading_anew
from contractive_gnn.nn.evaluation import evaluating
from contractive_gnn.trainable import (
    Calibrated,
    HasCommunities,
    HasMembers,
    HasModes,
    HasRoles,
    Taught,
    TrainsItself,
    declared,
    reset,
)
from contractive_gnn.training.batches.progress import Progress
from contractive_gnn.training.prediction import compressed

#: p₊ and p₋: few pairs of a sparse graph are joined, and more than half of its edges go, without which no added edge
#: can be certified
NOISE = SparseNoise(add=0.001, delete=0.6)
CHOOSE, SAMPLES, ALPHA = 200, 1000, 0.01


@dataclass(frozen=True, eq=False, repr=False)
class SmoothedCertificate:
    """What is certified about a smoothed classifier on one graph; on the CPU.

    Attributes:
        prediction: of the smoothed classifier, int64 ``[n]``.
        probability: a lower bound of how often the model says that on noisy graphs, ``[n]``, each at the confidence
            1 − alpha.
        noise: of the smoothing.
        alpha: each node's certificate is wrong with at most this probability.
        samples: noisy graphs that the bound comes from.
        seconds: wall time.

    Example:
        >>> import contractive_gnn as cg
        >>> from contractive_gnn.certificates import certify_smoothed
        >>> data = cg.contextual_sbm(80, seed=0)
        >>> certificate = certify_smoothed(cg.build("gcn", data.num_features, 4), data, choose=20, samples=50)
        >>> certificate.method.partition(",")[0]
        'randomised smoothing (p+ = 0.001'
    """

    prediction: Tensor
    probability: Tensor
    noise: SparseNoise
    alpha: float
    samples: int
    seconds: float

    def __repr__(self) -> str:
        """One line; the tensors are attributes."""
        return f"{type(self).__name__}({len(self.prediction)} predictions, {self.method})"

    @property
    def method(self) -> str:
        """Its name, with all that decides what it says."""
        return (
            f"randomised smoothing (p+ = {self.noise.add:g}, p- = {self.noise.delete:g}, {self.samples} samples, "
            f"alpha = {self.alpha:g} for each node)"
        )

    def certified(self, flips: int, *, additions: bool = True, deletions: bool = True) -> Tensor:
        """Nodes whose prediction no flips of so many edges of the graph change, bool ``[n]``.

        Args:
            flips: at least 0, in the whole graph: additions and deletions together, in any split.
            additions: whether edges may be added.
            deletions: whether edges may be deleted.

        Raises:
            ValueError: neither of the two, or a negative number.
        """
        check_whole("flips", flips, least=0)
        if not (additions or deletions):
            raise ValueError("expected additions, deletions or both, got neither")
        held = torch.ones(len(self.probability), dtype=torch.bool)
        for added, deleted in _ways(flips, additions, deletions):
            held &= certified_within(self.noise, self.probability, added=added, deleted=deleted)
        return held

    def reason(self, flips: int, *, additions: bool = True, deletions: bool = True) -> str:
        """Why no node of any model is certified with this noise and so few samples; empty where one could be.

        Args:
            flips: see :meth:`certified`.
            additions: see :meth:`certified`.
            deletions: see :meth:`certified`.
        """
        largest = lower_confidence(torch.tensor([self.samples]), self.samples, alpha=self.alpha)
        for added, deleted in _ways(flips, additions, deletions):
            if not bool(certified_within(self.noise, largest, added=added, deleted=deleted).any()):
                return (
                    f"the noise p+ = {self.noise.add:g}, p- = {self.noise.delete:g} hides {added} added and {deleted} "
                    f"deleted edges from no model, with {self.samples} samples and alpha = {self.alpha:g}; raise p- "
                    "(against added edges) or p+ (against deleted ones), or take more samples"
                )
        return ""

    def accuracy(self, y: Tensor, mask: Tensor, *, flips: int, additions: bool = True, deletions: bool = True) -> float:
        """Certified accuracy: percent of the nodes of ``mask`` that are right, and certified to stay so.

        Raises:
            InputError: labels or a mask that :mod:`contractive_gnn.inputs` refuses.
        """
        n = len(self.prediction)
        labels, chosen = inputs.class_labels(y, n).cpu(), inputs.node_mask(mask, n).cpu()
        inputs.check_known(labels, chosen)
        held = self.certified(flips, additions=additions, deletions=deletions)
        return 100.0 * float((held & (self.prediction == labels))[chosen].double().mean())


def _ways(flips: int, additions: bool, deletions: bool) -> list[tuple[int, int]]:
    """How so many flips are shared out; fewer are within one of these, for the bound falls with either number."""
    least, most = (0 if deletions else flips), (flips if additions else 0)
    return [(added, flips - added) for added in range(least, most + 1)]


class NoisyEdges(nn.Module):
    """A model that sees its graph with new noise at every call: to be fitted as it will be asked.

    Args:
        model: ``forward(x, edge_index) -> [n, classes]``, that declares nothing about its training.
        noise: of the edges.
        seed: of the noise.

    Raises:
        ValueError: a model that declares something (:mod:`contractive_gnn.trainable`).
    """

    def __init__(self, model: nn.Module, noise: SparseNoise, *, seed: int) -> None:
        super().__init__()
        if declares_training(model):
            raise ValueError(f"{type(model).__name__} declares a training of its own; fit it on the clean graph")
        self.model, self.noise, self.seed = model, noise, seed
        self._generator = torch.Generator().manual_seed(seed)

    def reset_parameters(self) -> None:
        """Draw the parameters of the model anew, and begin with the noise again."""
        reset(self.model)
        self._generator.manual_seed(self.seed)

    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        """The scores on a noisy graph, ``[n, classes]``."""
        noisy = self.noise.edges(edge_index.cpu(), len(x), generator=self._generator)
        return self.model(x, noisy.to(edge_index.device))  # type: ignore[no-any-return]


def declares_training(model: nn.Module) -> bool:
    """Whether the model declares more of its training than how its parameters are drawn."""
    contracts = (HasMembers, Taught, TrainsItself, HasModes, HasRoles, Calibrated, HasCommunities)
    return any(declared(model, contract) is not None for contract in contracts)


def certify_smoothed(
    model: nn.Module,
    data: Data,
    *,
    noise: SparseNoise = NOISE,
    choose: int = CHOOSE,
    samples: int = SAMPLES,
    alpha: float = ALPHA,
    seed: int = 0,
    progress: bool = False,
) -> SmoothedCertificate:
    r"""The certificate of randomised smoothing for any model.

    On ``choose`` noisy graphs the class is chosen, on ``samples`` others its probability is bounded from below, at the
    confidence 1 − alpha for each node by itself (Clopper and Pearson).

    Args:
        model: ``forward(x, edge_index) -> [n, classes]``, asked in evaluation mode. Its answer must depend on these two
            alone; PyG's layers with ``cached=True`` are made to read each graph.
        data: a graph with ``x`` and ``edge_index``, without weights.
        noise: p₊ and p₋ of the edges.
        choose: at least 1.
        samples: at least 1. A node can be certified only if ``alpha`` to the power 1/samples is beyond what the noise
            asks for: with 1000 samples and alpha = 0.01 the bound reaches 0.995.
        alpha: in (0, 1).
        seed: of the noise.
        progress: whether a bar over the noisy graphs is shown, with the time that is left.

    Raises:
        InputError: a graph that :mod:`contractive_gnn.inputs` refuses, or scores of another shape.
        ValueError: an option out of its range.
        FloatingPointError: scores that are not finite: they have no likeliest class.

    Example:
        >>> import contractive_gnn as cg
        >>> data = cg.contextual_sbm(80, seed=0)
        >>> model = cg.build("gcn", data.num_features, 4)
        >>> certificate = certify_smoothed(model, data, choose=20, samples=50)
        >>> certificate.certified(flips=1).shape
        torch.Size([80])
    """
    check_whole("choose", choose, least=1)
    check_whole("samples", samples, least=1)
    check_whole("seed", seed, least=0, below=2**63)
    check_real("alpha", alpha, above=0, below=1)
    check_flag("progress", progress)
    start = time.perf_counter()
    data = compressed(inputs.checked(data, labels=False, weighted=False))
    generator = torch.Generator().manual_seed(seed)
    # noise of the model's own belongs to the smoothing, too
    with torch.no_grad(), evaluating(model), reading_anew(model), torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        with closing(Progress(shown=progress, steps=choose + samples, done=0)) as bar:
            prediction = _votes(model, data, noise, choose, generator, bar).argmax(dim=1)
            hits = _votes(model, data, noise, samples, generator, bar).gather(1, prediction[:, None]).squeeze(1)
    probability = lower_confidence(hits, samples, alpha=alpha)
    return SmoothedCertificate(prediction, probability, noise, alpha, samples, time.perf_counter() - start)


def _votes(
    model: nn.Module, data: Data, noise: SparseNoise, samples: int, generator: torch.Generator, bar: Progress
) -> Tensor:
    """How often the model says each class on noisy graphs, int64 ``[n, classes]``."""
    count = torch.zeros(0, 0, dtype=torch.long)
    n, edges = int(data.x.shape[0]), data.edge_index.cpu()
    for _ in range(samples):
        scores = model(data.x, noise.edges(edges, n, generator=generator).to(data.edge_index.device))
        if not (isinstance(scores, Tensor) and scores.dim() == 2 and len(scores) == n):
            given = list(scores.shape) if isinstance(scores, Tensor) else type(scores).__name__
            raise inputs.InputError(f"{type(model).__name__} returned {given}; expected class scores [{n}, classes]")
        if not bool(scores.isfinite().all()):
            raise FloatingPointError(f"{type(model).__name__}'s scores on a noisy graph are not finite")
        if not count.numel():
            count = torch.zeros(scores.shape, dtype=torch.long)
        count[torch.arange(n), scores.argmax(dim=1).cpu()] += 1
        bar.step()
    return count
