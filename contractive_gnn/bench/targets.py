"""Which nodes a live targeted attack aims at: ``20``, ``degree:40``, ``margin:40`` or ``balanced:40``.

================ ======================================================================================================
rule             targets
================ ======================================================================================================
``20``           a sample of the test nodes with more than ten neighbours, as Pro-GNN attacks them (Jin et al., KDD
                 2020); where there are too few, the test nodes with the most neighbours
``degree:40``    a quarter of them from each quarter of the test nodes by their number of neighbours
``margin:40``    of the test nodes that a linear surrogate classifies correctly a quarter with the largest margin, a
                 quarter with the smallest and the rest at random, as Nettack's 10, 10 and 20 (Zügner et al., KDD 2018)
``balanced:40``  as many test nodes of each class, as in the balanced test set of Gosch et al. (NeurIPS 2023)
================ ======================================================================================================

No model of the benchmark has a part in the choice. Whether it classifies a target correctly does not matter: the clean
accuracy on the same nodes is reported beside the attacked one.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import torch
from torch import Tensor
from torch_geometric.data import Data
from torch_geometric.utils import degree

from contractive_gnn.attacks.metattack import train_surrogate
from contractive_gnn.names import unknown
from contractive_gnn.seeding import seeded

#: Pro-GNN attacks the test nodes with more neighbours than this
TARGET_DEGREE: Final = 10

_FORM: Final = re.compile(r"((?P<by>[^:]*):)?(?P<count>\d+)", re.ASCII)


class TargetError(ValueError):
    """Targets that cannot be chosen as asked; the text says why and what there is."""


@dataclass(frozen=True)
class TargetRule:
    """How many targets, and by what they are chosen.

    Attributes:
        count: of targets.
        by: "degree", "margin" or "balanced": the targets come in bins; None for nodes of high degree, without bins.
    """

    count: int
    by: str | None = None

    @classmethod
    def parse(cls, given: int | str) -> TargetRule:
        """Read a number, or ``RULE:NUMBER``.

        Raises:
            TargetError: another form, an unknown rule, or no target.
        """
        match = _FORM.fullmatch(str(given).strip())
        if isinstance(given, bool) or match is None:
            raise TargetError(f"targets {given!r}: expected a number, like 20, or RULE:NUMBER, like degree:40")
        by, count = match["by"], int(match["count"])
        if by is not None and by not in BINS:
            raise TargetError(f"targets {given!r}: {unknown('rule', [by], BINS)}")
        if count < 1:
            raise TargetError(f"targets: expected at least 1, got {given}")
        return cls(count, by)

    @property
    def written(self) -> int | str:
        """As results name it."""
        return self.count if self.by is None else f"{self.by}:{self.count}"


#: what a benchmark takes where nothing is said
HIGH_DEGREE: Final = TargetRule(20)


@dataclass(frozen=True)
class Targets:
    """The nodes that an attack aims at.

    Attributes:
        nodes: int64 ``[t]``, ascending.
        bins: the nodes of each bin, by its name; empty for a rule without bins. Each target is in one bin.
    """

    nodes: Tensor
    bins: Mapping[str, Tensor] = field(default_factory=dict)


def choose_targets(data: Data, rule: TargetRule, *, seed: int) -> Targets:
    """Targets among the test nodes.

    Args:
        data: the clean graph.
        rule: how many, and which.
        seed: of the draws, and of the surrogate.

    Raises:
        TargetError: there are too few nodes for as many targets.
    """
    test = data.test_mask.nonzero().flatten()
    if not 1 <= rule.count <= test.numel():
        raise TargetError(f"expected 1 to {test.numel()} targets (the test nodes of {data.name}), got {rule.count}")
    generator = torch.Generator().manual_seed(seed)
    if rule.by is None:
        return Targets(_of_high_degree(data, test, rule.count, generator))
    bins = BINS[rule.by](data, test, rule.count, seed, generator)
    return Targets(torch.cat([*bins.values()]).sort().values, bins)


def _of_high_degree(data: Data, test: Tensor, count: int, generator: torch.Generator) -> Tensor:
    degrees = _degrees(data, test)
    candidates = test[degrees > TARGET_DEGREE]
    if candidates.numel() < count:
        chosen = test[degrees.argsort(descending=True, stable=True)[:count]]
    else:
        chosen = candidates[torch.randperm(candidates.numel(), generator=generator)[:count]]
    ascending: Tensor = chosen.sort().values
    return ascending


def _degrees(data: Data, nodes: Tensor) -> Tensor:
    degrees: Tensor = degree(data.edge_index[0], num_nodes=data.num_nodes)[nodes]
    return degrees


def _by_degree(data: Data, test: Tensor, count: int, seed: int, generator: torch.Generator) -> dict[str, Tensor]:
    quarters = test[_degrees(data, test).argsort(stable=True)].tensor_split(4)
    names = [f"degree quarter {number}" for number in range(1, 5)]
    return _sampled(names, quarters, count, generator, data)


def _by_class(data: Data, test: Tensor, count: int, seed: int, generator: torch.Generator) -> dict[str, Tensor]:
    classes = data.y[data.y >= 0].unique().tolist()
    nodes = [test[data.y[test] == label] for label in classes]
    return _sampled([f"class {label}" for label in classes], nodes, count, generator, data)


def _sampled(
    names: Sequence[str], nodes: Sequence[Tensor], count: int, generator: torch.Generator, data: Data
) -> dict[str, Tensor]:
    """As many of each, as far as the number can be divided: the first ones have one more."""
    if count < len(names):
        raise TargetError(f"expected at least {len(names)} targets, one of each {names[0].split()[0]}, got {count}")
    bins = {}
    for index, (name, own) in enumerate(zip(names, nodes, strict=True)):
        share = count // len(names) + (index < count % len(names))
        if own.numel() < share:
            raise TargetError(
                f"{share} targets are wanted of {name} of {data.name}, which has {own.numel()} test nodes; ask for "
                "fewer"
            )
        bins[name] = own[torch.randperm(own.numel(), generator=generator)[:share]].sort().values
    return bins


def _by_margin(data: Data, test: Tensor, count: int, seed: int, generator: torch.Generator) -> dict[str, Tensor]:
    with seeded(seed):
        scores = train_surrogate(data).output[test]
    label = data.y[test][:, None]
    margin = (scores.gather(1, label) - scores.scatter(1, label, -torch.inf).amax(dim=1, keepdim=True)).flatten()
    right = margin > 0
    order = test[right][margin[right].argsort(descending=True, stable=True)]
    if order.numel() < count:
        raise TargetError(
            f"a linear surrogate classifies {order.numel()} test nodes of {data.name} correctly, and {count} targets "
            "are wanted of them: ask for fewer"
        )
    quarter = count // 4
    between = order[quarter : order.numel() - quarter]
    drawn = between[torch.randperm(between.numel(), generator=generator)[: count - 2 * quarter]]
    bins = {"largest margin": order[:quarter], "smallest margin": order[order.numel() - quarter :], "random": drawn}
    return {name: nodes.sort().values for name, nodes in bins.items() if nodes.numel()}


#: the rules with bins, by name
BINS: Final[Mapping[str, Callable[[Data, Tensor, int, int, torch.Generator], dict[str, Tensor]]]] = {
    "degree": _by_degree,
    "margin": _by_margin,
    "balanced": _by_class,
}
