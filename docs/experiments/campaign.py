"""Hand over whatever a user may hand over, thousands of times, and check every answer by a slower computation.

    python docs/experiments/campaign.py --examples 10000 --out docs/results/campaign.jsonl

Hypothesis draws small graphs, ways to write one and the same graph down (masks as indices, labels as a column, sparse
features, edges in another order, …) and faults (one orientation only, a NaN, two splits side by side, …). Of each
entry of the library, ``fit``, ``evaluate``, ``predict``, ``lipschitz``, ``certify``, every attack and the command line,
it is then required:

- a graph written in another way gets the answer that the plain way gets, and this agrees with dense matrices in
  float64 (scores), counting (accuracies), perturbed inputs (bounds), graphs within the budget (certificates), and sets
  of pairs (attacks);
- a fault is refused, by an error that this library raises, not one that a library below it ran into;
- no score is NaN, and nothing takes longer than two minutes.

A line for every block of examples is appended, so a stopped run goes on; blocks of another commit are made anew.
"""

from __future__ import annotations

import argparse
import copy
import dataclasses
import itertools
import json
import signal
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import torch
from appending import append, read
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch_geometric.data import Data
from typer.testing import CliRunner

import contractive_gnn
import contractive_gnn.attacks
import contractive_gnn.datasets
from contractive_gnn.attacks import ATTACKS, Budget, get
from contractive_gnn.bench.cli import app
from contractive_gnn.bench.results import current_commit, current_versions
from contractive_gnn.certificates import FlipBudget, certify
from contractive_gnn.nn import build
from contractive_gnn.training import evaluate, fit, predict

HOMES = tuple(str(Path(package.__path__[0]).resolve()) for package in (contractive_gnn, *vars(contractive_gnn).values())
              if hasattr(package, "__path__"))  # fmt: skip
LIMIT_S = 120
BLOCK = 100
SMALL: dict[str, dict[str, Any]] = {
    "mlp": {"hidden_channels": 4},
    "gcn": {"hidden_channels": 4},
    "gat": {"hidden_channels": 2, "heads": 2},
    "appnp": {"hidden_channels": 4},
    "linf-diffusion": {"hidden_channels": 4, "num_layers": 3},
    "gradient-flow": {"hidden_channels": 4, "num_layers": 3},
    "csgnn": {"hidden_channels": 4, "num_layers": 2},
    "robust": {"hidden_channels": 4, "num_layers": 3},
    "robust-provable": {"hidden_channels": 4, "num_layers": 3},
    "rung": {"hidden_channels": 4},
    "elastic-gnn": {"hidden_channels": 4},
}
READS_NO_EDGE = ("mlp",)
BOUNDED = ("linf-diffusion", "gradient-flow", "csgnn")
# of the attacks that take them
SHORT = {"epochs": 5, "fine_epochs": 2, "samples": 2, "swaps": 3, "population": 6, "generations": 3}


class WrongError(AssertionError):
    """An answer that the slow computation contradicts, an accepted fault, or an error of another library."""


@dataclasses.dataclass(frozen=True)
class Plain:
    """A graph as one would write it on paper: pairs, weights, numbers, classes and parts of a split."""

    n: int
    pairs: tuple[tuple[int, int], ...]
    weights: tuple[float, ...] | None
    x: Tensor
    y: tuple[int, ...]
    parts: tuple[tuple[int, ...], ...]

    def data(self) -> Data:
        """The plain way to write it for the library."""
        edges = torch.tensor([*self.pairs, *((v, u) for u, v in self.pairs)], dtype=torch.int64).reshape(-1, 2).t()
        data = Data(x=self.x, edge_index=edges.contiguous(), y=torch.tensor(self.y))
        if self.weights is not None:
            data.edge_weight = torch.tensor(self.weights * 2, dtype=self.x.dtype)
        for key, part in zip(("train_mask", "val_mask", "test_mask"), self.parts, strict=True):
            data[key] = torch.zeros(self.n, dtype=torch.bool)
            data[key][list(part)] = True
        return data

    def matrix(self) -> Tensor:
        """The dense adjacency matrix in float64."""
        a = torch.zeros(self.n, self.n, dtype=torch.float64)
        for (u, v), weight in zip(self.pairs, self.weights or (1.0,) * len(self.pairs), strict=True):
            a[u, v] = a[v, u] = weight
        return a


@st.composite
def plain(draw: st.DrawFn, *, least: int = 5, most: int = 9, weighted: bool = True, binary: bool = False) -> Plain:
    """A graph of up to ``most`` nodes, some isolated, some with features of zeros."""
    n = draw(st.integers(least, most))
    every = list(itertools.combinations(range(n), 2))
    pairs = tuple(sorted(draw(st.sets(st.sampled_from(every), max_size=2 * n))))
    weights = None
    if weighted and draw(st.booleans()):
        weights = tuple(
            draw(st.lists(st.sampled_from([0.0, 0.25, 1.0, 3.0]), min_size=len(pairs), max_size=len(pairs)))
        )
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    width = draw(st.integers(2, 4))
    x = torch.from_numpy((rng.random((n, width)) < 0.5) * (1.0 if binary else rng.random((n, width))))
    x = x.to(draw(st.sampled_from([torch.float32, torch.float64])))
    y = (0, 1, 2, *(int(label) for label in rng.integers(0, 3, n - 3)))
    nodes = tuple(int(node) for node in rng.permutation(n))
    cut = draw(st.integers(1, n - 3))
    return Plain(n, pairs, weights, x, y, (nodes[:cut], nodes[cut : cut + 1], nodes[cut + 1 :]))


# ways to write the same graph down -----------------------------------------------------------------------------------

Change = Callable[[Data, np.random.Generator], None]


def every_mask(change: Callable[[Tensor, np.random.Generator], Tensor]) -> Change:
    """Change the three masks in one manner."""

    def changed(data: Data, rng: np.random.Generator) -> None:
        for key in ("train_mask", "val_mask", "test_mask"):
            data[key] = change(data[key], rng)

    return changed


def shuffled_indices(mask: Tensor, rng: np.random.Generator) -> Tensor:
    """The nodes of a mask, in any order."""
    nodes = mask.nonzero().flatten()
    return nodes[torch.from_numpy(rng.permutation(len(nodes)))]


def reorder(data: Data, rng: np.random.Generator) -> None:
    """The edges, with their weights, in another order."""
    order = torch.from_numpy(rng.permutation(data.edge_index.shape[1]))
    data.edge_index = data.edge_index[:, order]
    if data.get("edge_weight") is not None:
        data.edge_weight = data.edge_weight[order]


def as_matrix(data: Data, rng: np.random.Generator) -> None:
    """The edges as a sparse matrix, COO or CSR."""
    weight = (
        torch.ones(data.edge_index.shape[1], dtype=data.x.dtype)
        if data.get("edge_weight") is None
        else data.edge_weight
    )
    n = data.x.shape[0]
    data.edge_index = torch.sparse_coo_tensor(data.edge_index, weight, (n, n)).coalesce()
    if rng.random() < 0.5:
        data.edge_index = data.edge_index.to_sparse_csr()
    if "edge_weight" in data:
        del data.edge_weight


def field(key: str, change: Callable[[Tensor], Tensor]) -> Change:
    """Change one field."""

    def changed(data: Data, rng: np.random.Generator) -> None:
        data[key] = change(data[key])

    return changed


def ones(data: Data, rng: np.random.Generator) -> None:
    """Weights of one where there are none."""
    if data.get("edge_weight") is None:
        data.edge_weight = torch.ones(data.edge_index.shape[1])


WRITINGS: dict[str, Change] = {
    "index masks": every_mask(shuffled_indices),
    "int32 index masks": every_mask(lambda mask, rng: mask.nonzero().flatten().int()),
    "0/1 masks": every_mask(lambda mask, rng: mask.long()),
    "uint8 masks": every_mask(lambda mask, rng: mask.to(torch.uint8)),
    "column masks": every_mask(lambda mask, rng: mask.unsqueeze(1)),
    "column labels": field("y", lambda y: y.unsqueeze(1)),
    "int32 labels": field("y", lambda y: y.int()),
    "float labels": field("y", lambda y: y.double()),
    "edges in another order": reorder,
    "a field of nodes": lambda data, rng: data.__setitem__("pos", torch.rand(data.x.shape[0], 3)),
}
SPARSE: dict[str, Change] = {
    "csr features": field("x", Tensor.to_sparse_csr),
    "coo features": field("x", Tensor.to_sparse_coo),
    "csc features": field("x", Tensor.to_sparse_csc),
    "adjacency matrix": as_matrix,
    "weights of one": ones,
}


# faults --------------------------------------------------------------------------------------------------------------


def with_edges(*columns: tuple[int, int]) -> Change:
    """More columns of ``edge_index``."""

    def changed(data: Data, rng: np.random.Generator) -> None:
        data.edge_index = torch.cat([data.edge_index, torch.tensor(columns).t()], dim=1)

    return changed


def weights(change: Callable[[Tensor], Tensor]) -> Change:
    """A path of three nodes, its weights spoiled."""

    def changed(data: Data, rng: np.random.Generator) -> None:
        path = torch.tensor([[0, 1, 1, 2], [1, 0, 2, 1]])
        data.edge_index, data.edge_weight = path, change(torch.ones(4))

    return changed


def put(value: float, at: int) -> Callable[[Tensor], Tensor]:
    """One entry set to a value."""

    def changed(tensor: Tensor) -> Tensor:
        tensor = tensor.clone()
        tensor.view(-1)[at] = value
        return tensor

    return changed


def one_way(data: Data, rng: np.random.Generator) -> None:
    """A directed path."""
    data.edge_index = torch.tensor([[0, 1], [1, 2]])


def twice(data: Data, rng: np.random.Generator) -> None:
    """One orientation listed twice."""
    data.edge_index = torch.tensor([[0, 1, 0], [1, 0, 1]])


def nothing(data: Data, rng: np.random.Generator) -> None:
    """A graph of no nodes."""
    data.x, data.edge_index, data.y = data.x[:0], data.edge_index[:, :0], data.y[:0]
    for key in ("train_mask", "val_mask", "test_mask"):
        data[key] = data[key][:0]


def a_field(key: str, value: Callable[[Data], Any]) -> Change:
    """Set one field."""
    return lambda data, rng: data.__setitem__(key, value(data))


GRAPH_FAULTS: dict[str, Change] = {
    "one orientation": one_way,
    "an edge twice": twice,
    "self-loop": with_edges((1, 1)),
    "padding": with_edges((-1, -1)),
    "node out of range": with_edges((0, 99), (99, 0)),
    "int32 edges": field("edge_index", Tensor.int),
    "edges as rows": field(
        "edge_index", lambda e: torch.cat([e, torch.tensor([[0, 1, 2], [1, 2, 0]])], 1).t().contiguous()
    ),
    "asymmetric weight": weights(put(2.0, 0)),
    "negative weight": weights(lambda w: -w),
    "nan weight": weights(lambda w: w * torch.nan),
    "inf weight": weights(lambda w: w * torch.inf),
    "integer weight": weights(lambda w: 2 * w.long()),
    "column weight": weights(lambda w: 2 * w.unsqueeze(1)),
    "short weight": weights(lambda w: 2 * w[:-1]),
    "edge_attr": a_field("edge_attr", lambda d: torch.ones(d.edge_index.shape[1], 2)),
    "stale adj_t": a_field("adj_t", lambda d: torch.eye(d.x.shape[0]).to_sparse()),
    "no edge_index": a_field("edge_index", lambda d: None),
    "nan feature": field("x", put(torch.nan, 0)),
    "inf feature": field("x", put(torch.inf, -1)),
    "integer features": field("x", Tensor.long),
    "boolean features": field("x", Tensor.bool),
    "half features": field("x", Tensor.half),
    "no features": a_field("x", lambda d: None),
    "features of one dimension": field("x", lambda x: x[:, 0]),
    "features of three dimensions": field("x", lambda x: x.unsqueeze(0)),
}
LABEL_FAULTS: dict[str, Change] = {
    "no labels": a_field("y", lambda d: None),
    "one-hot labels": field("y", lambda y: torch.nn.functional.one_hot(y, 3)),
    "nan labels": field("y", lambda y: y * torch.nan),
    "labels between": field("y", lambda y: y + 0.5),
    "label -7": field("y", put(-7, 0)),
    "short labels": field("y", lambda y: y[:-1]),
    "two splits": every_mask(lambda mask, rng: torch.stack([mask, mask], dim=1)),
    "repeated indices": every_mask(lambda mask, rng: torch.tensor([2, 2, 2])),
    "float masks": every_mask(lambda mask, rng: mask.float()),
    "short masks": every_mask(lambda mask, rng: mask[:-1]),
    "indices out of range": every_mask(lambda mask, rng: torch.tensor([1, 77])),
    "no nodes": nothing,
}
FIT_FAULTS: dict[str, Change] = {
    "unknown training labels": field("y", lambda y: torch.full_like(y, -1)),
    "labels beyond the classes": field("y", lambda y: y + 3),
    "empty masks": every_mask(lambda mask, rng: torch.zeros_like(mask)),
    "no train_mask": a_field("train_mask", lambda d: None),
}


# the slow computations -----------------------------------------------------------------------------------------------


def dense_scores(name: str, model: nn.Module, x: Tensor, a: Tensor) -> Tensor | None:
    """The model's formula with dense matrices in float64, or None where it has no short one."""
    state = {key: value.double() for key, value in model.state_dict().items() if isinstance(value, Tensor)}
    x, n = x.double(), len(x)
    if name in ("gcn", "appnp"):
        loops = a + torch.eye(n, dtype=torch.float64)
        scale = loops.sum(dim=1).rsqrt()
        p = scale[:, None] * loops * scale
    if name == "gcn":
        hidden = (p @ x @ state["conv1.lin.weight"].t() + state["conv1.bias"]).relu()
        return p @ hidden @ state["conv2.lin.weight"].t() + state["conv2.bias"]
    if name in ("mlp", "appnp", "linf-diffusion"):
        hidden = (x @ state["encoder.weight"].t() + state["encoder.bias"]).relu()
        z = start = hidden @ state["decoder.weight"].t() + state["decoder.bias"]
        if name == "appnp":
            conv = model.conv
            for _ in range(conv.K):
                z = (1 - conv.alpha) * p @ z + conv.alpha * start
        if name == "linf-diffusion":
            field = model.conv.dynamics
            h, mu = 1 / (1 + field.mu), field.mu
            p = a / (1 + a.sum(dim=1, keepdim=True))
            for _ in range(model.conv.num_steps):
                pull = (
                    p[:, :, None] * (z[:, None] - z[None]).clamp(-field.sigma.threshold, field.sigma.threshold)
                ).sum(1)
                z = z - h * (pull + mu * (z - start))
        return z
    return None


def accuracy(scores: Tensor, y: tuple[int, ...], nodes: tuple[int, ...]) -> float:
    """Percent right, by counting."""
    return 100.0 * sum(int(scores[node].argmax()) == y[node] for node in nodes) / len(nodes)


def close(one: Tensor, other: Tensor, tolerance: float) -> bool:
    """Whether two score matrices agree, relative to their size."""
    return bool(((one.double() - other.double()).abs() <= tolerance * (1 + other.double().abs())).all())


def require(holds: bool, text: str) -> None:
    """Fail unless it holds."""
    if not holds:
        raise WrongError(text)


@contextmanager
def no_longer_than(seconds: int) -> Iterator[None]:
    """Fail where the block takes longer."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise WrongError(f"it took longer than {seconds} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def refused(call: Callable[[], object], what: str) -> None:
    """The call must raise an error of this library's own."""
    try:
        answer = call()
    except WrongError:
        raise
    except Exception as error:
        place = traceback.extract_tb(error.__traceback__)[-1]
        ours = str(Path(place.filename).resolve()).startswith(HOMES)
        require(
            ours and isinstance(error, ValueError | TypeError | RuntimeError),
            f"{what}: {type(error).__name__} of {place.filename}:{place.lineno}: {error}",
        )
        return
    raise WrongError(f"{what} was accepted: {answer!r}")


# the entries ---------------------------------------------------------------------------------------------------------


class Entries:
    """One method for each entry; ``counts`` says how many examples were answered and how many refused."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()

    def draw(
        self, d: st.DataObject, *, faults: dict[str, Change], sparse: bool, **shape: Any
    ) -> tuple[Plain, Data, str]:
        """A graph, the same written in some way, and the name of its fault or an empty one."""
        given = d.draw(plain(**shape))
        data = given.data()
        rng = np.random.default_rng(d.draw(st.integers(0, 2**32 - 1)))
        ways = {**WRITINGS, **(SPARSE if sparse else {})}
        fault = d.draw(st.sampled_from(sorted(faults))) if faults and d.draw(st.booleans()) else ""
        for way in [] if fault else d.draw(st.lists(st.sampled_from(sorted(ways)), max_size=3, unique=True)):
            written = way == "edges in another order" and data.edge_index.layout != torch.strided
            plain_masks = data.train_mask.dtype == torch.bool and data.train_mask.dim() == 1
            if not written and (plain_masks or "masks" not in way):
                ways[way](data, rng)
        if fault:
            faults[fault](data, rng)
        self.counts["refused" if fault else "answered"] += 1
        return given, data, fault

    def model(self, d: st.DataObject, given: Plain, names: tuple[str, ...] = tuple(SMALL)) -> tuple[str, nn.Module]:
        """A small model with parameters of its own seed."""
        name = d.draw(st.sampled_from(names))
        torch.manual_seed(d.draw(st.integers(0, 2**31)))
        model = build(name, given.x.shape[1], 3, **SMALL[name]).to(given.x.dtype).eval()
        return name, model

    def predict(self, d: st.DataObject) -> None:
        """Scores of a graph written in some way, against the plain way and the dense formula."""
        given, data, fault = self.draw(d, faults=GRAPH_FAULTS, sparse=True)
        name, model = self.model(d, given)
        if fault:
            return refused(lambda: predict(model, data), f"predict with {fault}")
        scores, reference = predict(model, data), predict(model, given.data())
        self.compare(name, model, given, scores, reference)
        return None

    def compare(self, name: str, model: nn.Module, given: Plain, scores: Tensor, reference: Tensor) -> None:
        """Two answers to one graph, the dense formula, and the graph without its pairs of weight 0."""
        tolerance = 1e-9 if given.x.dtype == torch.float64 else 1e-4
        require(bool(scores.isfinite().all()), f"{name}: scores that are not finite")
        require(close(scores, reference, tolerance), f"{name}: another answer to the same graph")
        slow = dense_scores(name, model, given.x, given.matrix())
        require(slow is None or close(scores, slow, tolerance), f"{name}: the dense formula says otherwise")
        if name == "csgnn":  # reads its adjacency, which moves, at a pair that is listed with weight 0
            return
        a = given.matrix()
        u, v = a.nonzero().t()
        plainly = model(given.x, torch.stack([u, v]), a[u, v].to(given.x.dtype)).detach()
        require(close(scores, plainly, tolerance), f"{name}: without the pairs of weight 0 it says otherwise")

    def evaluate(self, d: st.DataObject) -> None:
        """An accuracy, against counting."""
        faults = {**GRAPH_FAULTS, **LABEL_FAULTS, "unknown labels": FIT_FAULTS["unknown training labels"],
                  "labels beyond the classes": FIT_FAULTS["labels beyond the classes"]}  # fmt: skip
        given, data, fault = self.draw(d, faults=faults, sparse=True)
        name, model = self.model(d, given)
        if fault:
            return refused(lambda: evaluate(model, data, data.test_mask), f"evaluate with {fault}")
        found = evaluate(model, data, data.test_mask)
        counted = accuracy(predict(model, given.data()), given.y, given.parts[2])
        require(abs(found - counted) < 1e-3, f"{name}: accuracy {found}, counted {counted}")
        return None

    def fit(self, d: st.DataObject) -> None:
        """A fit on a graph written in some way, against the plain way."""
        given, data, fault = self.draw(d, faults={**GRAPH_FAULTS, **LABEL_FAULTS, **FIT_FAULTS}, sparse=True)
        names = tuple(
            name for name in SMALL if name != "gat"
        )  # whose dropout draws by edge: another order, other draws
        name, model = self.model(d, given, names)
        options: dict[str, Any] = {"epochs": 3, "seed": d.draw(st.integers(0, 99))}
        if d.draw(st.booleans()):
            options["self_training"] = 0.5
        if fault:
            return refused(lambda: fit(model, data, **options), f"fit with {fault}")
        other = copy.deepcopy(model)
        one, two = fit(model, data, **options), fit(other, given.data(), **options)
        scores = predict(model, data)
        tolerance = 1e-6 if given.x.dtype == torch.float64 else 1e-2
        require(bool(scores.isfinite().all()), f"{name}: scores that are not finite")
        require(close(scores, predict(other, given.data()), tolerance), f"{name}: another fit on the same graph")
        require(abs(one.val_loss - two.val_loss) < 10 * tolerance, f"{name}: another loss on the same graph")
        counted = accuracy(scores, given.y, given.parts[1])
        require(abs(one.val_accuracy - counted) < 1e-3, f"{name}: accuracy {one.val_accuracy}, counted {counted}")
        return None

    def lipschitz(self, d: st.DataObject) -> None:
        """A bound, against perturbed features and flipped pairs."""
        faults = {key: change for key, change in GRAPH_FAULTS.items() if key not in ("edge_attr", "stale adj_t")}
        given, data, fault = self.draw(d, faults=faults, sparse=False, weighted=d.draw(st.booleans()))
        name, model = self.model(d, given, BOUNDED)
        ask = lambda: model.lipschitz(data.x, data.edge_index, data.get("edge_weight"))  # noqa: E731
        if fault:
            return refused(ask, f"lipschitz with {fault}")
        bound = ask()
        flips, size = d.draw(st.integers(0, 12)), d.draw(st.sampled_from([0.0, 1e-3, 0.1, 2.0]))
        allowed = bound.change(features=size, flips=flips)
        require(allowed >= 0, f"{name}: a change of {allowed}")
        if not bound.certified:
            self.counts["not certified"] += 1
            return None
        rng = np.random.default_rng(d.draw(st.integers(0, 2**32 - 1)))
        clean = predict(model, given.data()).double()
        for _ in range(3):
            moved = flipped(given, rng, flips)
            noise = torch.from_numpy(rng.standard_normal(given.x.shape))
            noise = noise / (noise.norm() if bound.norm == "l2" else noise.abs().max()) * size
            x = (given.x.double() + noise).to(given.x.dtype)
            other = predict(model, dataclasses.replace(moved, x=x).data()).double()
            real = (other - clean).norm() if bound.norm == "l2" else (other - clean).abs().max()
            slack = 1e-9 if given.x.dtype == torch.float64 else 1e-4
            require(float(real) <= allowed * (1 + slack) + slack, f"{name}: moved by {float(real)}, bound {allowed}")
        return None

    def certify(self, d: st.DataObject) -> None:
        """Certified nodes, against graphs within the budget."""
        faults = {key: change for key, change in GRAPH_FAULTS.items()
                  if key not in ("edge_attr", "stale adj_t") and "weight" not in key}  # fmt: skip
        given, data, fault = self.draw(d, faults=faults, sparse=False, weighted=False)
        _, model = self.model(d, given, ("linf-diffusion",))
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.mul_(d.draw(st.sampled_from([0.3, 1.0, 3.0])))
        per_node = d.draw(st.sampled_from([0, 1, 1, 2, 3, given.n, 2 * given.n + 3, 10**7]))
        total = d.draw(st.sampled_from([None, 0, 1, 3, 10**9]))
        ask = lambda: certify(  # noqa: E731
            model, data.x, data.edge_index, flips=FlipBudget.uniform(per_node, given.n, total=total)
        )
        if fault:
            return refused(ask, f"certify with {fault}")
        certificate = ask()
        require(bool((~certificate.certified | (certificate.margin > 0)).all()), "certified without a margin")
        self.counts["certified nodes"] += int(certificate.certified.sum())
        rng = np.random.default_rng(d.draw(st.integers(0, 2**32 - 1)))
        for _ in range(8):
            moved = flipped(given, rng, 10**9 if total is None else total, per_node=per_node)
            changed = predict(model, moved.data()).argmax(dim=1) != certificate.prediction
            require(not bool((changed & certificate.certified).any()), f"a certified node changed: {moved.pairs}")
        counted = 100.0 * sum(
            bool(certificate.certified[v]) and int(certificate.prediction[v]) == given.y[v] for v in given.parts[2]
        ) / len(given.parts[2])  # fmt: skip
        require(abs(certificate.accuracy(data.y, data.test_mask) - counted) < 1e-9, "certified accuracy, counted")
        return None

    def attack(self, d: st.DataObject) -> None:
        """An attack, its flips counted as a difference of sets of pairs."""
        name = d.draw(st.sampled_from(sorted(n for n, a in ATTACKS.items() if a.kind not in ("injection", "deletion"))))
        kind, binary = ATTACKS[name], d.draw(st.booleans())
        faults = {**GRAPH_FAULTS, **LABEL_FAULTS, "unknown labels": FIT_FAULTS["unknown training labels"],
                  "weights": weights(lambda w: 0.5 * w)}  # fmt: skip
        given, data, fault = self.draw(
            d, faults=faults, sparse=False, weighted=False, binary=binary or kind.kind == "features", least=8, most=14
        )
        known = get(name).params
        attack = get(name, seed=d.draw(st.integers(0, 99)), **{key: v for key, v in SHORT.items() if key in known})
        _, victim = self.model(d, given, ("gcn", "robust", "linf-diffusion", "csgnn"))
        targets = torch.tensor(given.parts[2][:1]) if kind.scope == "targeted" or d.draw(st.booleans()) else None
        flips = d.draw(st.integers(0, 3))
        ask = lambda: attack.run(data, Budget(flips=flips), victim=victim, targets=targets)  # noqa: E731
        if fault == "no nodes" and not flips:  # of nothing, nothing is flipped
            self.counts["answered"] += 1
            return None
        if fault:
            return refused(ask, f"{name} with {fault}")
        before = copy.deepcopy(vars(attack))
        try:
            result = ask()
        except Exception as error:  # it may say that this graph is none for it

            def again(error: Exception = error) -> None:
                raise error

            refused(again, name)
            self.counts["not for this graph"] += 1
            return None
        require(repr(vars(attack)) == repr(before), f"{name}: its run changed it")
        u, v = result.data.edge_index
        found = {(int(a), int(b)) for a, b in zip(u, v, strict=True)}
        require(len(found) == len(u) and all(a != b and (b, a) in found for a, b in found), f"{name}: no simple graph")
        difference = {pair for pair in found if pair[0] < pair[1]} ^ set(given.pairs)
        entries = int((result.data.x != given.x).sum())
        require(difference == {(int(a), int(b)) for a, b in result.edge_flips.t()}, f"{name}: other flips than it says")
        require(len(difference) + entries == result.n_flips <= flips, f"{name}: {result.n_flips} flips of {flips}")
        require(torch.equal(result.data.y, torch.tensor(given.y)), f"{name}: other labels")
        require(result.data.test_mask.nonzero().flatten().tolist() == sorted(given.parts[2]), f"{name}: another split")
        require(bool(predict(victim, result.data).isfinite().all()), f"{name}: scores that are not finite")
        return None

    def command(self, d: st.DataObject) -> None:
        """A command line: it works, or says in one sentence why not."""
        arguments, good = d.draw(commands())
        with tempfile.TemporaryDirectory() as folder:
            answer = CliRunner().invoke(app, [word.replace("OUT", folder) for word in arguments])
        text = f"{' '.join(arguments)}: exit {answer.exit_code}, {answer.exception!r}, {answer.output[-300:]}"
        require(answer.exception is None or isinstance(answer.exception, SystemExit), text)
        require("Traceback" not in answer.output and not (good and "nan" in answer.output.lower().split()), text)
        require(answer.exit_code == (0 if good else 2), text)
        self.counts["answered" if good else "refused"] += 1


def flipped(given: Plain, rng: np.random.Generator, flips: int, *, per_node: int | None = None) -> Plain:
    """The graph with up to so many pairs flipped, and up to ``per_node`` at each node."""
    pairs = dict(zip(given.pairs, given.weights or (1.0,) * len(given.pairs), strict=True))
    every = [pair for pair in itertools.combinations(range(given.n), 2) if pairs.get(pair) != 0.0]
    left = [given.n if per_node is None else per_node] * given.n
    for index in rng.permutation(len(every)):
        u, v = every[index]
        if flips <= 0 or not (left[u] and left[v]) or rng.random() < 0.1:
            continue
        flips, left[u], left[v] = flips - 1, left[u] - 1, left[v] - 1
        if pairs.pop((u, v), None) is None:
            pairs[u, v] = 1.0
    kept = tuple(sorted(pairs))
    return dataclasses.replace(given, pairs=kept, weights=tuple(pairs[pair] for pair in kept))


QUICK = ["--dataset", "csbm", "--set", "training.epochs=1"]
COMMANDS: dict[str, tuple[list[str], dict[str, tuple[list[str], list[str]]]]] = {
    "bench": (
        ["bench", *QUICK, "--models", "mlp", "--attacks", "clean", "--seeds", "1", "--jobs", "1", "--out", "OUT"],
        {
            "--seeds": (["1", "2"], ["0", "-1", "one", "1.5", ""]),
            "--jobs": (["1"], ["0", "-2", "many"]),
            "--models": (["mlp", "gcn,mlp"], ["", "mpl", "gcn,nothing", ","]),
            "--attacks": (["clean", "clean,random:0.1"], ["", "cleam", "random:nan", "random:-0.1"]),
            "--dataset": (["csbm"], ["", "corra", "../csbm"]),
            "--split": (["random"], ["prognon", ""]),
            "--split-seed": (["0", "3"], ["-1", "4294967296", "x"]),
            "--attack-seed": (["0"], ["-1", "x"]),
            "--device": (["cpu"], ["gpu", "cuda:99", ""]),
            "--set": (
                ["training.epochs=2", "mlp.model.hidden_channels=4"],
                ["training.epochs=-5", "training.epochs=0.5", "training.lr=nan", "training.lr=-1",
                 "training.patience=-1", "mlp.model.hiden_channels=4", "mlp.model.hidden_channels=0",
                 "mlp.model.dropout=2", "epochs", "=", "x=1"],
            ),
            "--out": (["OUT"], ["/dev/null", "/proc/nothing"]),
            "--preset": ([], ["mlp=missing.json", "mlp", "=x"]),
            "--plugin": ([], ["missing.py", "no_such_module"]),
            "--anchors": ([], ["missing.csv"]),
        },
    ),
    "attack": (
        ["attack", "--dataset", "csbm", "--attack", "random:0.05", "--out", "OUT/graph.npz"],
        {
            "--attack": (["random:3flips", "dice:0.1"], ["", "randon:0.1", "random:1.0.0", "whitebox-pgd:0.1"]),
            "--seed": (["1"], ["-1", "x"]),
            "--out": (["OUT/deep/graph.npz"], ["OUT/graph.pt", "/dev/null/graph.npz"]),
            "--targets": (["5"], ["0", "-3", "many"]),
        },
    ),
    "certify": (
        ["certify", *QUICK, "--seeds", "1", "--out", "OUT"],
        {
            "--flips": (["1", "2"], ["0", "-1", "x"]),
            "--kind": (["additions", "deletions"], ["", "all"]),
            "--fraction": (["0.1"], ["-0.1", "nan", "x"]),
            "--total": (["3"], ["-1"]),
            "--seeds": (["1"], ["0", "-1"]),
            "--model": ([], ["gcn", "certifeid", ""]),
            "--feature-flips": (["0"], ["-1"]),
        },
    ),
    "verify": (
        ["verify", "diffusion", "--tries", "40", "--jobs", "1"],
        {"--tries": (["60"], ["0", "-5", "x"]), "--jobs": (["1"], ["0", "-1"]), "--seed": (["2"], ["x"])},
    ),
    "report": (["report", "OUT"], {"--anchors": ([], ["missing.csv"])}),
    "datasets": (["datasets"], {"--root": (["OUT"], [])}),
}  # fmt: skip


@st.composite
def commands(draw: st.DrawFn) -> tuple[list[str], bool]:
    """A command line, and whether it is one that should work."""
    name = draw(st.sampled_from(sorted(COMMANDS)))
    words, options = COMMANDS[name]
    option = draw(st.sampled_from(sorted(options)))
    good, bad = options[option]
    value = draw(st.sampled_from([*good, *bad])) if good or bad else None
    if value is None:
        return words, name != "report"
    return [*words, option, value], value in good and name != "report"  # an empty folder has no report


SHARES = {
    "predict": 0.22,
    "evaluate": 0.16,
    "fit": 0.16,
    "lipschitz": 0.15,
    "certify": 0.15,
    "attack": 0.15,
    "command": 0.02,
}


def run_block(entry: str, number: int, examples: int) -> dict[str, Any]:
    """So many examples of one entry, drawn under the block's own seed."""
    entries, start = Entries(), time.perf_counter()
    failures: list[str] = []

    @seed(number)
    @settings(max_examples=examples, database=None, deadline=None, derandomize=False,
              phases=(Phase.generate, Phase.shrink), suppress_health_check=list(HealthCheck))  # fmt: skip
    @given(st.data())
    def block(d: st.DataObject) -> None:
        with no_longer_than(LIMIT_S), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            getattr(entries, entry)(d)
        entries.counts["examples"] += 1

    try:
        block()
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            raise
        failures.append(f"{type(error).__name__}: {error}"[:600])
    return {"entry": entry, "block": number, **entries.counts, "failures": failures,
            "seconds": round(time.perf_counter() - start, 1)}  # fmt: skip


def main() -> None:
    """Run what is left of the blocks, and say what failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--examples", type=int, default=10_000)
    parser.add_argument("--entries", nargs="+", choices=sorted(SHARES), default=list(SHARES))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    torch.set_num_threads(1)
    commit, changes = current_commit()
    source = {"commit": commit, "uncommitted_changes": changes, "versions": current_versions()}
    done = {(row["entry"], row["block"]) for row in read(options.out) if row["commit"] == commit}
    failed = 0
    for entry in options.entries:
        for index in range(-(-round(options.examples * SHARES[entry]) // BLOCK)):
            if (entry, options.seed + index) in done:
                continue
            row = run_block(entry, options.seed + index, BLOCK)
            failed += len(row["failures"])
            append(options.out, [{**row, **source}])
            print(json.dumps(row, ensure_ascii=False), flush=True)
    raise SystemExit(bool(failed))


if __name__ == "__main__":
    main()
