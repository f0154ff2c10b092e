"""Training on parts of a graph that is too large for one step, without pyg-lib.

A part is another graph. What a model says on it, and what is proved of it there, are about that graph: a certificate of
a batch (:func:`contractive_gnn.certificates.certify_batch`) says so. Steps still contract on every batch, since the
layers work their largest step out for the graph that they are given.
"""

from __future__ import annotations

import math
import time
from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor, nn
from torch_geometric.data import Data

from contractive_gnn.checks import check_whole
from contractive_gnn.distinct import distinct
from contractive_gnn.inputs import InputError, node_mask
from contractive_gnn.nn.caches import reading_anew
from contractive_gnn.nn.similarity.latest import Latest
from contractive_gnn.partition import Method, check_method, node_fields, partition
from contractive_gnn.seeding import seeded
from contractive_gnn.trainable import Calibrated, HasMembers, Taught, TrainsItself, declared
from contractive_gnn.training.fitting import FitResult
from contractive_gnn.training.lessons import check_classes
from contractive_gnn.training.loop import Judgement, check_differentiates, remedy, train_by
from contractive_gnn.training.options import GivenLoopOptions, LoopOptions, options_of
from contractive_gnn.training.prediction import accuracy_and_loss, check_reads, class_scores, evaluated
from contractive_gnn.training.split import trainable

if TYPE_CHECKING:
    from typing_extensions import Unpack

Array = np.ndarray[Any, Any]


class Batches:
    """How a graph is cut into batches, anew for each epoch."""

    @abstractmethod
    def __call__(self, data: Data, generator: np.random.Generator) -> Iterator[Data]:
        """The batches of an epoch: graphs with ``n_id``, the numbers that their nodes have in ``data``.

        ``seed_mask`` are the nodes that the batch is for; every node of ``data.train_mask`` is one in exactly one
        batch. ``whole_nodes`` is the number of nodes of ``data``. Fields of nodes are those of ``data``, and other
        fields are left out.
        """


@dataclass(frozen=True)
class ClusterBatches(Batches):
    """Parts of the graph with the edges inside of them, some parts at a time (Chiang et al., KDD 2019, Cluster-GCN).

    Edges between parts that are not in one batch are left out: every epoch joins other parts. The parts are cut once.

    Args:
        parts: how many.
        at_once: parts in a batch, with the edges between them.
        method: of :func:`~contractive_gnn.partition.partition`.

    Raises:
        TypeError: a number that is not whole.
        ValueError: a number out of its range, or another method.

    Example:
        >>> from contractive_gnn.datasets import contextual_sbm
        >>> data = contextual_sbm(100, seed=0)
        >>> batches = list(ClusterBatches(5, at_once=2)(data, np.random.default_rng(0)))
        >>> [batch.num_nodes for batch in batches]
        [40, 40, 20]
    """

    parts: int
    at_once: int = 1
    method: Method = "rcm"
    _latest: Latest = field(default_factory=Latest, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        check_whole("parts", self.parts, least=1)
        check_whole("at_once", self.at_once, least=1)
        check_method(self.method)

    def __call__(self, data: Data, generator: np.random.Generator) -> Iterator[Data]:
        """See :class:`Batches`."""
        cut = self._latest(lambda: self._cut(data), data.edge_index, settings=(data.num_nodes,))
        chosen = generator.permutation(self.parts)
        for first in range(0, self.parts, self.at_once):
            nodes = np.concatenate([cut[part] for part in chosen[first : first + self.at_once]])
            yield induced(data, torch.from_numpy(nodes))

    def _cut(self, data: Data) -> list[Array]:
        """The nodes of every part."""
        part = partition(data.edge_index, int(data.num_nodes), self.parts, method=self.method).numpy()
        ends = np.cumsum(np.bincount(part, minlength=self.parts))[:-1]
        return np.split(np.argsort(part, kind="stable"), ends)


@dataclass(frozen=True)
class NeighbourBatches(Batches):
    """Some training nodes at a time, and neighbours drawn hop by hop (Hamilton et al., NeurIPS 2017, GraphSAGE).

    At a hop each node keeps at most so many of its edges, drawn without replacement. The edges that were drawn are
    taken in both directions.

    Args:
        size: training nodes in a batch.
        neighbours: how many of each node, hop by hop.

    Raises:
        TypeError: a number that is not whole, or ``neighbours`` that are no sequence.
        ValueError: a number out of its range.

    Example:
        >>> from contractive_gnn.datasets import contextual_sbm
        >>> data = contextual_sbm(100, seed=0)
        >>> batch = next(NeighbourBatches(4, neighbours=(3, 2))(data, np.random.default_rng(0)))
        >>> int(batch.seed_mask.sum()), batch.num_nodes <= 4 * (1 + 3 + 6)
        (4, True)
    """

    size: int
    neighbours: Sequence[int] = (10, 10)

    def __post_init__(self) -> None:
        check_whole("size", self.size, least=1)
        if not isinstance(self.neighbours, Sequence):
            raise TypeError(f"neighbours must be one number for each hop, like (10, 10), got {self.neighbours!r}")
        for number in self.neighbours:
            check_whole("neighbours", number, least=1)

    def __call__(self, data: Data, generator: np.random.Generator) -> Iterator[Data]:
        """See :class:`Batches`."""
        rows = _rows(data)
        learned = node_mask(data.train_mask, int(data.num_nodes), name="train_mask")
        nodes = generator.permutation(learned.nonzero().flatten().cpu().numpy())
        for first in range(0, len(nodes), self.size):
            yield self.around(data, nodes[first : first + self.size], generator, rows)

    def around(self, data: Data, nodes: Array, generator: np.random.Generator, rows: sp.csr_array) -> Data:
        """The batch of these nodes."""
        known = frontier = nodes
        seen = np.zeros(int(data.num_nodes), bool)
        seen[nodes] = True
        drawn = [np.empty(0, np.int64)]
        for most in self.neighbours:
            entries, ends = _drawn(rows, frontier, most, generator)
            drawn.append(rows.data[entries])
            frontier = distinct(ends[~seen[ends]])
            seen[frontier] = True
            known = np.concatenate([known, frontier])
        edges = torch.from_numpy(np.concatenate(drawn))
        batch = _batch(data, torch.from_numpy(known), edges)
        batch.seed_mask = torch.arange(len(known), device=batch.x.device) < len(nodes)
        return batch


def fit_batches(
    model: nn.Module,
    data: Data,
    batches: Batches,
    options: LoopOptions | None = None,
    *,
    seed: int = 0,
    every: int = 1,
    on_epoch: Callable[[int, float], None] | None = None,
    **given: Unpack[GivenLoopOptions],
) -> FitResult:
    """Draw the parameters anew and train them with Adam, one batch a step; the best epoch on the whole graph is kept.

    The loss of a batch is the mean cross-entropy of its own training nodes. After every epoch, or fewer, the whole
    graph is judged by its validation nodes, without a gradient: that takes the memory of a prediction.

    Args:
        model: see :func:`~contractive_gnn.training.fit`. What a model declares of its training beyond roles of
            parameters is left out: it is fitted once, on the labels, in the mode that it is in.
        data: see :func:`~contractive_gnn.training.fit`.
        batches: :class:`ClusterBatches`, :class:`NeighbourBatches` or your own.
        options: see :class:`~contractive_gnn.training.LoopOptions`, without a teacher; or give them one by one.
        seed: of the parameters, of dropout and of the batches.
        every: judge after this many epochs, and after the last one.
        on_epoch: called with an epoch that was judged and its validation accuracy in percent.
        **given: options by name.

    Raises:
        InputError: a graph that :func:`~contractive_gnn.training.fit` refuses, or graphs in a batch of PyG.
        TypeError: a model that trains itself or has parts to fit, what is no :class:`Batches` or yields no batches,
            and options of another training.
        ValueError: an option out of its range, or a ``teacher``, nothing to train, or an epoch whose batches do not
            have every training node once.
        RuntimeError: within ``torch.inference_mode()``.
        FloatingPointError: a loss that is not finite.

    Example:
        >>> import contractive_gnn as cg
        >>> data = cg.contextual_sbm(200, seed=0)
        >>> model = cg.build("linf-diffusion", data.num_features, 4)
        >>> fit_batches(model, data, ClusterBatches(4), epochs=3).epochs
        3
    """
    check_differentiates("fit_batches")
    data, start = trainable(data), time.perf_counter()
    check_whole("seed", seed, least=0, below=2**63)
    check_whole("every", every, least=1)
    options = options_of(LoopOptions, options, given)
    if not isinstance(batches, Batches):
        raise TypeError(f"batches must be ClusterBatches, NeighbourBatches or your own Batches, got {batches!r}")
    if options.teacher is not None:
        raise ValueError("fit_batches learns from the labels alone; leave teacher out, or take fit")
    for kind in (TrainsItself, HasMembers, Taught):
        if declared(model, kind) is not None:
            raise TypeError(f"{type(model).__name__} is not trained by one loop; take fit, or fit its parts")
    if data.get("batch") is not None:
        raise InputError("data is a batch of graphs already; fit_batches cuts one graph, so drop data.batch")
    check_reads(model, data)
    calibrated = declared(model, Calibrated)
    if calibrated is not None:
        calibrated.calibrate(data, None)
    generator = np.random.default_rng(seed)

    def learn(optimizer: torch.optim.Optimizer, epoch: int) -> Tensor:
        loss, served = torch.tensor(math.nan), torch.zeros_like(data.y)
        for batch in batches(data, generator):
            nodes = _learned(batch, data)
            served[batch.n_id[nodes]] += 1
            if len(nodes):
                loss = _step(model, batch, nodes, optimizer, epoch)
        if wrong := int((served[data.train_mask] != 1).sum()):
            raise ValueError(
                f"{wrong} of {int(data.train_mask.sum())} training nodes were not in the seed_mask of exactly one "
                f"batch of epoch {epoch}; {type(batches).__name__} must give each of them to one"
            )
        return loss

    def judge(_: Tensor) -> Judgement:
        accuracy, loss = accuracy_and_loss(evaluated(model, data), data.y, data.val_mask)
        return Judgement.of(accuracy, -loss, (accuracy, loss))

    def say(epoch: int, accuracy: float, _: float) -> None:
        if on_epoch is not None:
            on_epoch(epoch, accuracy)

    with seeded(seed), torch.enable_grad():
        kept = train_by(learn, model, options, seed=seed, judge=judge, on_epoch=say, every=every)
    return FitResult(*kept.judgement.figures, kept.epoch, kept.epochs, time.perf_counter() - start)


def _learned(batch: object, data: Data) -> Tensor:
    """The training nodes that a batch is for, by their rows in it.

    Raises:
        TypeError: it is no batch of :class:`Batches`.
    """
    if not isinstance(batch, Data) or (absent := [key for key in ("n_id", "seed_mask") if batch.get(key) is None]):
        given = f"one without {absent[0]}" if isinstance(batch, Data) else f"a {type(batch).__name__}"
        raise TypeError(f"a batch must be a graph with n_id and seed_mask, as induced(data, nodes) is, got {given}")
    nodes: Tensor = (batch.seed_mask & data.train_mask[batch.n_id]).nonzero().flatten()
    return nodes


def _step(model: nn.Module, batch: Data, nodes: Tensor, optimizer: torch.optim.Optimizer, epoch: int) -> Tensor:
    """One step on these nodes of the batch, and its loss."""
    optimizer.zero_grad()
    with reading_anew(model):
        scores = class_scores(model, batch)
    check_classes(batch.y[nodes], scores)
    loss = nn.functional.cross_entropy(scores[nodes], batch.y[nodes])
    if not torch.isfinite(loss):
        todo = remedy(batch, stepped=bool(optimizer.state))
        raise FloatingPointError(f"the loss of a batch is {float(loss.detach())} at epoch {epoch}; {todo}")
    loss.backward()  # type: ignore[no-untyped-call]
    optimizer.step()
    return loss.detach()


def induced(data: Data, nodes: Tensor) -> Data:
    """The graph of these nodes and of all edges between them, a batch as :class:`Batches` yields them.

    Args:
        data: a graph.
        nodes: int64 ``[m]``, distinct.

    Raises:
        ValueError: what is no such tensor, or names nodes that do not exist or one twice.
    """
    if not isinstance(nodes, Tensor) or nodes.dtype != torch.int64 or nodes.dim() != 1:
        given = f"{nodes.dtype} {list(nodes.shape)}" if isinstance(nodes, Tensor) else f"a {type(nodes).__name__}"
        raise ValueError(f"nodes must be int64 [m], got {given}; take mask.nonzero().flatten() of a mask")
    if len(nodes) and (int(nodes.min()) < 0 or int(nodes.max()) >= int(data.num_nodes)):
        raise ValueError(f"nodes must be from 0 to {data.num_nodes - 1}, got {int(nodes.min())} to {int(nodes.max())}")
    nodes = nodes.to(data.edge_index.device)
    place = torch.full((int(data.num_nodes),), -1, dtype=torch.int64, device=nodes.device)
    number = torch.arange(len(nodes), device=nodes.device)
    place[nodes] = number
    if not torch.equal(place[nodes], number):
        raise ValueError("nodes must be distinct, got some of them twice; take nodes.unique()")
    inside = (place[data.edge_index] >= 0).all(dim=0).nonzero().flatten()
    batch = _batch(data, nodes, inside, place)
    batch.seed_mask = torch.ones(len(nodes), dtype=torch.bool, device=batch.x.device)
    return batch


def _batch(data: Data, nodes: Tensor, edges: Tensor, place: Tensor | None = None) -> Data:
    """These nodes and edges of a graph; without ``place`` the edges are taken in both directions, each once."""
    device, whole = data.edge_index.device, int(data.num_nodes)
    nodes, edges = nodes.to(device), edges.to(device)
    weight = data.get("edge_weight")
    if place is None:
        place = torch.full((whole,), -1, dtype=torch.int64, device=device)
        place[nodes] = torch.arange(len(nodes), device=device)
        u, v = place[data.edge_index[:, edges]]
        key, order = torch.sort(torch.minimum(u, v) * len(nodes) + torch.maximum(u, v))
        first = torch.ones(len(key), dtype=torch.bool, device=device)
        first[1:] = key[1:] != key[:-1]
        key = key[first]
        one_way = torch.stack([key // len(nodes), key % len(nodes)])
        edge_index = torch.cat([one_way, one_way.flip(0)], dim=1)
        chosen = edges[order[first]].repeat(2)
    else:
        edge_index, chosen = place[data.edge_index[:, edges]], edges
    batch = Data(edge_index=edge_index, n_id=nodes, whole_nodes=whole)
    if weight is not None:
        batch.edge_weight = weight[chosen]
    for name, value in node_fields(data, nodes):
        if name not in batch:  # of a batch of a batch the numbers are those in the latter
            batch[name] = value
    return batch


def _rows(data: Data) -> sp.csr_array:
    """By target and source, where an edge stands in ``edge_index``."""
    source, target = data.edge_index.cpu().numpy()
    n = int(data.num_nodes)
    return sp.csr_array((np.arange(len(source)), (target, source)), shape=(n, n))


def _drawn(rows: sp.csr_array, nodes: Array, most: int, generator: np.random.Generator) -> tuple[Array, Array]:
    """Entries of at most so many edges into each node, and their sources."""
    start, length = rows.indptr[nodes].astype(np.int64), np.diff(rows.indptr)[nodes]
    owner = np.repeat(np.arange(len(nodes)), length)
    entries = np.arange(int(length.sum())) + np.repeat(start - np.cumsum(length) + length, length)
    order = np.lexsort((generator.random(len(entries)), owner))
    rank = np.arange(len(entries)) - np.repeat(np.cumsum(length) - length, length)
    entries = entries[order[rank < most]]
    return entries, rows.indices[entries]
