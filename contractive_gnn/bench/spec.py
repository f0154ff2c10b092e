"""Attack specifications: ``NAME[:BUDGET][+NAME:BUDGET…][@evasion|@poisoning|@symbiotic]``, as on the command line.

    clean  metattack:0.05  metattack:0.25@poisoning  nettack:5  random:1.0  pgd:50flips  whitebox-pgd:0.1
    metattack:0.25+flip-features:0.1  tdgia:60x20  tdgia  degree-deletion:30nodes  attacked.npz  attacked.npz@poisoning
    meta-pgd:0.025+whitebox-pgd:0.025@symbiotic

BUDGET is a fraction with a decimal point (``0.05``, ``1.0``: of the clean graph's undirected edges, or of its non-zero
feature entries) or a number of flips (``50flips``) for a global attack. For a targeted one it is a whole number of
flips per target (``5``) or, on edges, a fraction of each target's degree (``0.5``). ``1`` and ``1.0`` are never taken
for each other. An attack that adds nodes has ``60x20``: 60 new nodes with at most 20 edges each; on Cora, Citeseer and
Pubmed without a budget that of the literature (:data:`NEW_NODES_OF`). One that deletes nodes has ``30nodes``, or a
fraction of the nodes. What stands after ``+`` is global, and attacks the graph that those before it
left: edges and features at once. A file that ends in ``.npz`` is an attacked graph that was saved before; its budget is
that of its attack. Of a file of perturbations, ``found.npz:gcn`` is the one that was found on ``gcn``.

Under ``@symbiotic`` the model is trained on the graph that the first attacks left, and those behind, which see it,
attack what was trained: poisoning and evasion share one budget, the sum of those given.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from decimal import Decimal
from itertools import takewhile
from typing import Final, get_args

from contractive_gnn.attacks import ATTACKS, Attack, Budget
from contractive_gnn.bench.replay import Replay, ReplayError, is_file
from contractive_gnn.bench.results import NEW_NODES, BudgetUnit, Source, Threat
from contractive_gnn.datasets import UnknownBudgetError, has_published
from contractive_gnn.datasets.published import checked_budget
from contractive_gnn.names import unknown

CLEAN: Final = "clean"
RANDOM: Final = "random"
#: attacks whose graphs others published; their bare names mean those graphs where the dataset has them
PUBLISHED: Final = ("metattack", "nettack")
LIVE: Final = "-live"
#: the unit of a share of the edges
EDGES: Final = "fraction of edges"

#: how many new nodes, and edges of each, the literature adds (Chen et al., ICLR 2022, and others since)
NEW_NODES_OF: Final[Mapping[str, tuple[int, int]]] = {"cora": (60, 20), "citeseer": (90, 10), "pubmed": (200, 100)}

_STEP: Final = re.compile(r"(?P<name>[^:@+]+)(:(?P<budget>[^:@+]*))?", re.ASCII)
_FORM: Final = (
    "NAME[:BUDGET][+NAME:BUDGET…][@evasion|@poisoning|@symbiotic], like metattack:0.25, nettack:5 or "
    "dice:0.1+flip-features:0.1"
)
_SYMBIOTIC: Final = (
    "expected global attacks that poison and then others that see the trained model, like "
    "meta-pgd:0.025+whitebox-pgd:0.025@symbiotic"
)
_FRACTION: Final = re.compile(r"\d+\.\d+", re.ASCII)
_FLIPS: Final = re.compile(r"(\d+)flips", re.ASCII)
_NEW_NODES: Final = re.compile(r"(\d+)x(\d+)", re.ASCII)
_DELETED: Final = re.compile(r"(\d+)nodes", re.ASCII)
_PER_TARGET: Final = re.compile(r"\d+", re.ASCII)


class SpecError(ValueError):
    """An attack specification that cannot be understood; the text says what was given and what was expected."""


@dataclass(frozen=True)
class AttackSpec:
    """One attack at one budget, and those that follow on the graph that it leaves.

    What is said of the attack, here and in the properties, is said of the first one; :attr:`steps` has them all.

    Attributes:
        name: as written: "clean", "random", "metattack-live", …
        budget: how much it may change; None for "clean".
        threat: whether the model is frozen ("evasion"), retrained on the attacked graph ("poisoning"), or retrained on
            what :attr:`poisoning_steps` left and then attacked ("symbiotic").
        source: "published" graphs, a "live" attack, or "generated" (random edges, or nothing for "clean").
        then: global attacks, one after another, on the graph that it leaves; their threat is that of the whole.
        replay: the saved graph, where it is one; its source is "replayed".
    """

    name: str
    budget: Budget | None
    threat: Threat
    source: Source
    then: tuple[AttackSpec, ...] = ()
    replay: Replay | None = None

    @property
    def steps(self) -> tuple[AttackSpec, ...]:
        """It by itself, and those that follow."""
        return (replace(self, then=()), *self.then)

    @property
    def poisoning_steps(self) -> tuple[AttackSpec, ...]:
        """Those before the first that sees the model."""
        return tuple(takewhile(lambda step: not step.needs_victim, self.steps))

    @property
    def label(self) -> str:
        """Its name, and those that follow with their budgets: what the results call it."""
        return "+".join([self.name, *(step._written for step in self.then)])

    @property
    def attack(self) -> type[Attack]:
        """The class of a live attack, or the one that the published graphs were made by."""
        return ATTACKS[self.name.removesuffix(LIVE)]

    @property
    def targeted(self) -> bool:
        """Whether it aims at single nodes."""
        if self.replay is not None:
            return self.replay.scope == "targeted"
        return self.name not in (CLEAN, RANDOM) and self.attack.scope == "targeted"

    @property
    def needs_victim(self) -> bool:
        """Whether its graph depends on the model that is attacked."""
        return any(step.source == "live" and step.attack.knowledge == "adaptive" for step in self.steps)

    @property
    def amount(self) -> float | int:
        """The number in the budget; 0 for "clean"."""
        return 0 if self.budget is None else amount(self.budget)

    @property
    def unit(self) -> BudgetUnit:
        """What the number in the budget counts."""
        if self.budget is None:
            return "none"
        kind = "structure" if self.name == RANDOM else self.attack.kind if self.replay is None else self.replay.kind
        if self.budget.degree is not None:
            return "fraction of each target's degree"
        if self.budget.edges is not None:
            return f"{NEW_NODES}, {self.budget.edges} edges each"
        if self.budget.nodes is not None:
            return "nodes"
        if kind == "deletion":
            return "fraction of nodes"
        if self.budget.fraction is not None:
            return "fraction of feature entries" if kind == "features" else EDGES
        each = " per target" if self.targeted and self.budget.per_target is None else ""
        counted = {"both": "edges and feature entries", "features": "feature entries", "structure": "edges"}[kind]
        return f"{counted}{each}"

    def __str__(self) -> str:
        if self.budget is None:
            return self.name
        return f"{self.without_threat}@{self.threat}"

    @property
    def without_threat(self) -> str:
        """As written, without what becomes of the model: all that decides the graph."""
        return "+".join(step._written for step in self.steps)

    @property
    def _written(self) -> str:
        """``NAME:BUDGET``, of the first alone; or the path of a saved graph."""
        if self.replay is not None:
            return self.replay.written
        assert self.budget is not None
        share = self.budget.degree if self.budget.fraction is None else self.budget.fraction
        if share is not None:
            budget = format(Decimal(repr(share)), "f")
        elif self.budget.nodes is not None:
            budget = f"{self.budget.nodes}nodes" if self.budget.edges is None else _new_nodes(self.budget)
        else:
            budget = str(self.budget.flips) if self.targeted else f"{self.budget.flips}flips"
        return f"{self.name}:{budget}"


def amount(budget: Budget) -> float | int:
    """The number in a budget: flips or nodes (int), a share (float); of numbers for each target their sum."""
    if budget.per_target is not None:
        return sum(int(flips) for flips in budget.per_target)
    given = (budget.flips, budget.fraction, budget.degree, budget.nodes)
    return next(number for number in given if number is not None)


def _new_nodes(budget: Budget) -> str:
    return f"{budget.nodes}x{budget.edges}"


def attack_names() -> list[str]:
    """Every name that a specification can begin with."""
    live = [name + LIVE for name in PUBLISHED if name in ATTACKS]
    return [CLEAN, *sorted({RANDOM, *ATTACKS, *live})]


def parse_attacks(text: str, *, dataset: str) -> tuple[AttackSpec, ...]:
    """Comma-separated specifications, each kept once, in their order.

    Raises:
        SpecError: one of them cannot be understood, or there is none.
    """
    specs = [parse_attack(part, dataset=dataset) for part in text.split(",") if part.strip()]
    if not specs:
        raise SpecError(f"expected attacks like clean,metattack:0.25,nettack:5, got {text!r}")
    return tuple(dict.fromkeys(specs))


def parse_attack(text: str, *, dataset: str) -> AttackSpec:
    """One specification; ``dataset`` decides whether "metattack" and "nettack" mean published graphs.

    The threat, where none is given: evasion for adaptive attacks, those on features, those that add or delete nodes,
    and pgd / minmax, whose loss is that of a frozen model; poisoning for the others. Of several in a row the first
    decides, unless another one is adaptive: evasion, since what was made against a frozen model is weak against
    another. A saved graph: evasion.

    Raises:
        SpecError: it cannot be understood.
    """
    text = text.strip()
    chain, at, threat = text.partition("@")
    if at and threat not in get_args(Threat):
        raise SpecError(f"attack {text!r}: after @ expected evasion, poisoning or symbiotic, got {threat!r}")
    if is_file(text):
        if threat == "symbiotic":
            raise SpecError(f"attack {text!r}: a saved graph has no part that meets a trained model; {_SYMBIOTIC}")
        replayed: Threat = threat or "evasion"  # type: ignore[assignment]  # checked above
        try:
            replay = Replay.read(chain.strip(), threat=replayed, dataset=dataset)
        except ReplayError as error:
            raise SpecError(f"attack {text!r}: {error}") from error
        return AttackSpec(replay.name, replay.budget, replayed, "replayed", replay=replay)
    first, *others = (_parse_step(text, part.strip(), dataset) for part in chain.split("+"))
    if first.name == CLEAN and (at or others):
        raise SpecError(f"attack {text!r}: clean is no attack and takes no budget and no threat; write clean")
    for step in others:
        if step.name == CLEAN or step.targeted or step.source == "published":
            advice = f"; write {step.name}{LIVE}" if step.source == "published" and not step.targeted else ""
            raise SpecError(
                f"attack {text!r}: after + expected a global attack that is made here, on the graph that those before "
                f"it left, got {step.name!r}{advice}"
            )
    names = [step.name for step in (first, *others)]
    if twice := [name for name in names if names.count(name) > 1]:
        raise SpecError(f"attack {text!r}: {twice[0]} stands there twice, with one seed; give it one, larger budget")
    adaptive = any(step.needs_victim for step in others)
    decided: Threat = threat or ("evasion" if adaptive else first.threat)  # type: ignore[assignment]  # checked above
    spec = replace(first, threat=decided, then=tuple(replace(step, threat=decided) for step in others))
    if decided == "symbiotic":
        poisoning = len(spec.poisoning_steps)
        meets = spec.steps[poisoning:]
        if first.targeted or poisoning == 0 or not meets or not all(step.needs_victim for step in meets):
            raise SpecError(f"attack {text!r}: {_SYMBIOTIC}")
    return spec


def _parse_step(text: str, part: str, dataset: str) -> AttackSpec:
    """``NAME[:BUDGET]``, a ``part`` of ``text``, with the threat that is its own where none is given."""
    match = _STEP.fullmatch(part)
    if match is None:
        raise SpecError(f"attack {text!r}: expected {_FORM}")
    name, budget = match["name"], match["budget"]
    if name not in attack_names():
        raise SpecError(f"attack {text!r}: {unknown('attack', [name], attack_names())}")
    if name == CLEAN:
        if budget is not None:
            raise SpecError(f"attack {text!r}: clean is no attack and takes no budget and no threat; write clean")
        return AttackSpec(CLEAN, None, "evasion", "generated")

    source: Source = "live"
    if name == RANDOM:
        source = "generated"
    elif name in PUBLISHED and has_published(dataset, name):
        source = "published"
    undecided = AttackSpec(name, None, "poisoning", source)
    return replace(undecided, budget=_parse_budget(text, budget, undecided, dataset), threat=_default_threat(undecided))


def _parse_budget(text: str, budget: str | None, spec: AttackSpec, dataset: str) -> Budget:
    kind = "structure" if spec.name == RANDOM else spec.attack.kind
    if kind == "injection":
        if budget is None and dataset in NEW_NODES_OF:
            nodes_added, edges = NEW_NODES_OF[dataset]
            return Budget(nodes=nodes_added, edges=edges)
        usual = ", ".join(f"{nodes}x{edges} on {name}" for name, (nodes, edges) in NEW_NODES_OF.items())
        expected = f"new nodes and the edges of each, like {spec.name}:60x20; the literature takes {usual}"
    elif kind == "deletion":
        expected = f"a number of nodes, like {spec.name}:30nodes, or a fraction of them, like {spec.name}:0.05"
    elif spec.targeted:
        expected = f"a whole number of flips per target, like {spec.name}:5"
        if spec.attack.kind == "structure":
            expected += f", or a fraction of each target's degree, like {spec.name}:0.5"
    else:
        expected = (
            f"a fraction with a decimal point, like {spec.name}:0.05, or a number of flips, like {spec.name}:50flips"
        )
    if budget is None:
        raise SpecError(f"attack {text!r} lacks a budget: expected {expected}")
    parsed: Budget | None = None
    if kind == "injection":
        if new := _NEW_NODES.fullmatch(budget):
            parsed = Budget(nodes=int(new[1]), edges=int(new[2])) if int(new[2]) else None
    elif spec.targeted:
        if _PER_TARGET.fullmatch(budget):
            parsed = Budget(flips=int(budget))
        elif _FRACTION.fullmatch(budget) and spec.attack.kind == "structure":
            parsed = Budget(degree=float(budget))
    elif _FRACTION.fullmatch(budget):
        parsed = Budget(fraction=float(budget))
    elif kind == "deletion":
        if nodes := _DELETED.fullmatch(budget):
            parsed = Budget(nodes=int(nodes[1]))
    elif flips := _FLIPS.fullmatch(budget):
        parsed = Budget(flips=int(flips[1]))
    if parsed is None:
        raise SpecError(f"attack {text!r}: {budget!r} is no budget of it; expected {expected}")
    if parsed.fraction is not None and spec.source == "live" and spec.attack.kind == "both":
        raise SpecError(
            f"attack {text!r}: a fraction of edges and feature entries together has no one meaning; "
            f"expected a number of flips, like {spec.name}:50flips"
        )
    if not amount(parsed):
        raise SpecError(f"attack {text!r}: the budget must be above 0; without an attack, write clean")
    if spec.source == "published":
        try:
            checked_budget(dataset, spec.name, amount(parsed))
        except UnknownBudgetError as error:
            raise SpecError(f"attack {text!r}: {error}; to attack {dataset} here, write {spec.name}-live") from error
    return parsed


def _default_threat(spec: AttackSpec) -> Threat:
    if spec.source != "live":
        return "poisoning"
    frozen = spec.attack.knowledge == "adaptive" or spec.name in ("pgd", "minmax")
    return "evasion" if frozen or spec.attack.kind in ("features", "injection", "deletion") else "poisoning"
