"""What every attack shares: the budget, and the checks around a run.

An attack is one class with one method, :meth:`Attack._perturb`, that proposes flips. Everything that a reader of a
robustness table has to trust happens here instead: the victim is a frozen copy in eval mode, random state is forked and
put back, the budget is a whole number, and the flips are applied to the clean graph by this module, not by the attack.
"""

from __future__ import annotations

import copy
import time
from abc import ABC, abstractmethod
from typing import Any, ClassVar, final

import torch
from torch import Tensor, nn
from torch_geometric.data import Data

from contractive_gnn.attacks.base.budget import Budget
from contractive_gnn.attacks.base.errors import AttackError
from contractive_gnn.attacks.base.flips import edge_difference, feature_difference, flip_edges, is_binary
from contractive_gnn.attacks.base.graphs import attackable
from contractive_gnn.attacks.base.kinds import Kind, Knowledge, Scope
from contractive_gnn.attacks.base.options import check_count, parameters, plain
from contractive_gnn.attacks.base.perturbation import Perturbation
from contractive_gnn.attacks.base.provenance import versions
from contractive_gnn.attacks.base.random_state import forked_random_state
from contractive_gnn.attacks.base.result import AttackResult
from contractive_gnn.attacks.base.targets import checked_targets
from contractive_gnn.attacks.base.victim import frozen_victim
from contractive_gnn.heap import kept_memory


class Attack(ABC):
    """Base class: subclasses say what they are, take keyword-only hyperparameters and implement :meth:`_perturb`.

    A subclass that is decorated with :func:`register` can be had by name. Its ``__init__`` stores each hyperparameter
    under its own name, so that :attr:`params` can list them; a run never modifies the attack object.

    Class attributes:
        name: what it is called on the command line.
        kind: "structure", "features" or "both": what it may flip; "injection" or "deletion" of nodes.
        scope: "global" (one budget for the graph) or "targeted" (one budget per target node).
        knowledge: "random" (no model), "transfer" (its own surrogate, never the victim) or "adaptive" (the victim).
        packages: distributions, beyond PyTorch, PyG and NumPy, whose versions belong in the provenance.
        reads_features: whether this very class promises never to write to ``data.x``, which is then not copied for it.

    Args:
        seed: 0 ≤ seed < 2³²; seeds torch, numpy and random inside the run. These belong to the process, so of several
            threads one attacks at a time.
    """

    name: ClassVar[str]
    kind: ClassVar[Kind]
    scope: ClassVar[Scope]
    knowledge: ClassVar[Knowledge]
    packages: ClassVar[tuple[str, ...]] = ()
    reads_features: ClassVar[bool] = False

    def __init__(self, *, seed: int = 0) -> None:
        self.seed: int = check_count("seed", seed, least=0)
        if self.seed >= 2**32:
            raise ValueError(f"seed must be below 2**32, given {seed}")
        self._notes: dict[str, Any] = {}  # what a run finds out about the victim, on the run's own copy
        self._budget: Budget | None = None  # what a run was given, on the run's own copy

    @property
    def radius(self) -> float | None:
        """Largest change of one continuous feature entry; None (the default) for attacks that only flip."""
        return None

    @property
    def params(self) -> dict[str, Any]:
        """The attack's own hyperparameters, without the seed; a callable by its name."""
        return {name: plain(getattr(self, name)) for name in parameters(type(self)) if name != "seed"}

    @abstractmethod
    def _perturb(self, data: Data, n_flips: int, *, victim: nn.Module | None, targets: Tensor | None) -> Perturbation:
        """Propose at most ``n_flips`` ≥ 1 flips of ``data``.

        Args:
            data: a copy of the graph, which may be modified freely (but for ``data.x`` under ``reads_features``).
            n_flips: how many edges and feature entries may differ in the end.
            victim: frozen copy in eval mode for an adaptive attack, otherwise None.
            targets: for a targeted attack, int64 ``[1]``: the base class calls once per target. For a global one the
                nodes whose accuracy counts, or None where the caller gave none.
        """

    @classmethod
    def allowed(cls, data: Data, budget: Budget) -> int:
        """The whole number of flips that a budget allows this attack on ``data``: rounded down.

        Raises:
            ValueError: see :meth:`Budget.resolve`.
        """
        return budget.resolve(data, cls.kind)

    def _per_node(self, data: Data) -> Tensor | None:
        """How many of the flipped edges may end at each node of ``data``, int64 ``[n]``; None (the default): as many as
        the budget allows in all. A run checks it.
        """
        return None

    def _prepare(self, data: Data) -> None:  # noqa: B027  (a hook: most attacks have nothing to prepare)
        """Called once per run with the clean graph, before the first :meth:`_perturb`: train a surrogate here.

        It runs on a shallow copy of the attack, so what it stores on ``self`` lasts as long as the run.
        """

    @final
    def run(
        self, data: Data, budget: Budget, *, victim: nn.Module | None = None, targets: Tensor | None = None
    ) -> AttackResult:
        """Attack ``data`` and check the outcome.

        A targeted attack visits its targets one after another, each with a budget of its own and on the graph that the
        targets before it left, as the published Nettack graphs of Pro-GNN accumulate their perturbations; a
        surrogate is trained once, on the clean graph. A flip that a later target undoes is in the result no longer.

        Args:
            data: undirected, unweighted graph without self-loops: x float ``[n, d]`` dense, edge_index int64
                ``[2, 2m]`` with both directions, y, train_mask, val_mask, test_mask, of which each node has a label.
                It is not modified; the result has the labels and masks as :mod:`contractive_gnn.inputs` reads them.
            budget: a :class:`Budget`; for a targeted attack flips per target, a share of each target's degree, or a
                number for each target.
            victim: ``forward(x, edge_index, edge_weight=None) -> logits [n, classes]``. Needed by adaptive attacks;
                the others never see it. The attack gets a frozen copy in eval mode.
            targets: int64 ``[t]``, distinct node indices. Needed by targeted attacks; a global attack may use them as
                the nodes to fool (default: its own, usually the test mask).

        Raises:
            TypeError: an argument of the wrong type.
            ValueError: a graph, budget or targets that the attack cannot take; a missing victim or missing targets.
            AttackError: the attack broke its promises (over budget, self-loop, duplicate flip, …) or cannot work here,
                as with a victim whose layers keep an earlier graph (``cached=True``).
        """
        data = attackable(data, "data")
        if self.kind == "features" and self.radius is None and not is_binary(data.x):
            raise ValueError(
                f"attack {self.name!r} flips binary features, but x has entries other than 0 and 1: binarise x first, "
                "or take an attack on continuous features"
            )
        self._check_budget(budget)
        targets = self._check_targets(data, targets)
        allowed = self._resolve(data, budget, targets)
        with torch.inference_mode(False):  # a copy that is made in inference mode has no gradient
            frozen = self._freeze(victim)

        start = time.perf_counter()
        current = data
        notes: dict[str, Any] = {}
        if any(allowed):
            worker = copy.copy(self)
            worker._notes, worker._budget = notes, budget
            with forked_random_state(self.seed), torch.inference_mode(False), torch.enable_grad():
                worker._prepare(self._copied(data))
                aims = [targets] if self.scope == "global" or targets is None else torch.split(targets, 1)
                with kept_memory():  # from here on: what was prepared on goes back to the system first
                    for aim, flips in zip(aims, allowed, strict=True):
                        if flips:
                            proposal = worker._perturb(self._copied(current), flips, victim=frozen, targets=aim)
                            current = worker._apply(current, proposal, flips)
                del worker
        feature_flips = feature_difference(data.x, current.x)
        current = current.clone()  # no tensor of the result is one of the caller's
        seconds = time.perf_counter() - start

        attackable(current, f"the graph that attack {self.name!r} made")
        if targets is not None:
            current.targets = targets
        return AttackResult(
            data=current,
            edge_flips=edge_difference(data.edge_index, current.edge_index),
            feature_flips=feature_flips,
            budget=budget,
            seconds=seconds,
            provenance={
                "attack": self.name,
                "kind": self.kind,
                "scope": self.scope,
                "knowledge": self.knowledge,
                "seed": self.seed,
                "params": {**self.params, **({"diagnosis": notes} if notes else {})},
                "allowed_flips": allowed[0] if budget.whole else list(allowed),
                "targets": None if targets is None else targets.tolist(),
                "versions": versions(self.packages),
            },
        )

    def _check_budget(self, budget: Budget) -> None:
        if not isinstance(budget, Budget):
            raise TypeError(
                f"attack {self.name!r}: the budget is a Budget, given {budget!r} ({type(budget).__name__}); "
                "write Budget(flips=…) or Budget(fraction=…)"
            )
        if self.scope == "targeted" and budget.fraction is not None:
            raise ValueError(
                f"attack {self.name!r} is targeted: its budget is a number of flips per target, given "
                f"fraction={budget.fraction}; write Budget(flips=…)"
            )
        if self.scope == "global" and not budget.whole:
            raise ValueError(
                f"attack {self.name!r} is global and {budget} is for each target; write Budget(flips=…) or "
                "Budget(fraction=…)"
            )

    def _resolve(self, data: Data, budget: Budget, targets: Tensor | None) -> tuple[int, ...]:
        """The flips allowed: in all, or for each target of a targeted attack."""
        if self.scope == "global" or targets is None:
            return (self.allowed(data, budget),)
        allowed = budget.of_targets(data, self.kind, targets)
        n, d = data.x.shape
        pairs, entries = n * (n - 1) // 2, n * d
        there = {"structure": pairs, "features": entries}.get(self.kind, pairs + entries)
        if max(allowed) > there:
            raise ValueError(
                f"attack {self.name!r}: {budget} is more than the {there} that there are to flip in a graph of {n} "
                f"nodes and {d} features; give a smaller budget"
            )
        return allowed

    def _check_targets(self, data: Data, targets: Tensor | None) -> Tensor | None:
        if targets is None:
            if self.scope == "targeted":
                raise ValueError(
                    f"attack {self.name!r} is targeted: give the nodes to attack, targets=torch.tensor([…])"
                )
            return None
        return checked_targets(data, targets)

    def _freeze(self, victim: nn.Module | None) -> nn.Module | None:
        if victim is not None and not isinstance(victim, nn.Module):
            raise TypeError(f"victim is a torch.nn.Module, given {type(victim).__name__}")
        if self.knowledge != "adaptive":
            return None
        if victim is None:
            raise ValueError(
                f"attack {self.name!r} is adaptive: it needs the model that it attacks, victim=model "
                "(forward(x, edge_index, edge_weight=None) -> logits)"
            )
        return frozen_victim(self.name, victim)

    def _copied(self, data: Data) -> Data:
        """A graph of the attack's own."""
        if not vars(type(self)).get("reads_features", False):  # a subclass has not promised it
            return data.clone()
        own = copy.copy(data)
        del own.x  # 31 MB on Citeseer, a third of all that Metattack takes
        own = own.clone()
        own.x = data.x
        return own

    def _apply(self, data: Data, proposal: Perturbation, allowed: int) -> Data:
        """Check a proposal against ``data`` and apply it to a shallow copy, which shares what does not change."""
        if not isinstance(proposal, Perturbation):
            raise self._broken(f"returned {type(proposal).__name__}, not a Perturbation")
        if proposal.new_x is not None or proposal.deleted is not None:
            raise self._broken("added or deleted nodes; that is for subclasses of InjectionAttack and of Deletion")
        n, d = data.x.shape
        edges = self._check_flips(proposal.edge_flips, "edge_flips", (n, n))
        entries = self._check_flips(proposal.feature_flips, "feature_flips", (n, d))
        x = data.x if proposal.x is None else self._check_features(data.x, proposal.x, entries)

        if self.kind == "structure" and (entries.shape[1] or proposal.x is not None):
            raise self._broken("attacks the structure, but changed features")
        if self.kind == "features" and edges.shape[1]:
            raise self._broken(f"attacks the features, but flipped {edges.shape[1]} edges")
        loops = int((edges[0] == edges[1]).sum())
        if loops:
            raise self._broken(f"made {loops} self-loops")
        if bool((edges[0] > edges[1]).any()):
            raise self._broken("listed an edge (u, v) with u > v: undirected edges are listed once, with u < v")
        if entries.shape[1] and not is_binary(data.x):
            raise self._broken(
                "flips binary features, but x has entries other than 0 and 1: binarise x first, or take an attack on "
                "continuous features"
            )
        if (per_node := self._per_node(data)) is not None:
            over = torch.bincount(edges.flatten(), minlength=n) - per_node.cpu()
            if bool((over > 0).any()):
                node = int(over.argmax())
                raise self._broken(
                    f"flipped {int(over[node] + per_node[node])} edges at node {node}, where {int(per_node[node])} are "
                    "allowed"
                )
        columns = entries.shape[1] + (0 if x is data.x else int(torch.count_nonzero(x != data.x)))
        changed = self._cost(edges.shape[1], columns)
        if changed > allowed:
            raise self._broken(f"made {changed} flips where {allowed} are allowed")

        perturbed = copy.copy(data)
        perturbed.edge_index = flip_edges(data.edge_index, edges, num_nodes=n)
        if x is not data.x or entries.shape[1]:
            perturbed.x = x.clone()
            perturbed.x[entries[0], entries[1]] = 1 - data.x[entries[0], entries[1]]
        return perturbed

    def _cost(self, edges: int, entries: int) -> int:
        """How much of the budget so many flipped edges and feature entries take: each of them one."""
        return edges + entries

    def _check_flips(self, flips: Tensor, what: str, bounds: tuple[int, int]) -> Tensor:
        if not isinstance(flips, Tensor) or flips.dtype != torch.int64 or flips.dim() != 2 or flips.shape[0] != 2:
            given = f"{flips.dtype} {list(flips.shape)}" if isinstance(flips, Tensor) else type(flips).__name__
            raise self._broken(f"returned {what} as {given}, not as an int64 tensor [2, k]")
        flips = flips.detach().cpu()
        if flips.numel() and (int(flips.min()) < 0 or bool((flips.amax(dim=1) >= torch.tensor(bounds)).any())):
            raise self._broken(f"returned {what} outside of 0…{bounds[0] - 1} × 0…{bounds[1] - 1}")
        if flips.shape[1] != torch.unique(flips, dim=1).shape[1]:
            raise self._broken(f"returned duplicates in {what}")
        return flips

    def _check_features(self, clean: Tensor, x: Tensor, entries: Tensor) -> Tensor:
        if self.radius is None:
            raise self._broken("returned continuous features x without declaring a radius")
        if entries.shape[1]:
            raise self._broken("returned both feature_flips and x")
        x = x.detach().to(clean)
        if x.shape != clean.shape or not bool(torch.isfinite(x).all()):
            raise self._broken(
                f"returned x of shape {list(x.shape)}, or not finite, where {list(clean.shape)} was expected"
            )
        largest = float((x - clean).abs().max())
        # x + radius is rounded to float32: allow that last bit, relative to the size of the entries
        if largest > self.radius + 1e-6 * max(1.0, float(clean.abs().max())):
            raise self._broken(f"changed a feature by {largest:g} where {self.radius:g} is allowed")
        return x

    def _broken(self, text: str) -> AttackError:
        return AttackError(f"attack {self.name!r} {text}")
