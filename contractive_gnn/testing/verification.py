"""Try to break every constant that the registered dynamics and fields declare."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch

from contractive_gnn.dynamics import DYNAMICS, FIELDS, Dynamics, VectorField, registry
from contractive_gnn.names import unknown
from contractive_gnn.norms import number
from contractive_gnn.testing.claims import Claim, Finding, Kind, Search, claims, field_claims, randomised
from contractive_gnn.testing.graphs import battery

CHANNELS = 2
DRAWS = 4
"""So many times the parameters of a field without a graph are drawn."""


@dataclass(frozen=True, eq=False)
class Verdict:
    """What became of the claims of one dynamics, or of one field.

    Attributes:
        name: of the dynamics or field.
        norm: that of its claims.
        certified: whether it says that its claims are proved.
        findings: every claim with the worst pair that was found for it.
    """

    name: str
    norm: str
    certified: bool
    findings: tuple[tuple[Claim, Finding], ...]

    def worst(self, kind: Kind) -> tuple[Claim, Finding] | None:
        """The claim of one kind that exceeded its constant the most, or came nearest; None where there is none."""
        found = [pair for pair in self.findings if pair[0].kind == kind]
        return max(found, key=lambda pair: pair[0].ratio(pair[1]), default=None)

    @property
    def broken(self) -> list[tuple[Claim, Finding]]:
        """The claims that a pair exceeded, with that pair: of steps, of the field, of schemes, the worst first."""
        found = [pair for pair in self.findings if pair[0].broken_by(pair[1])]
        order = {"step": 0, "kept": 2}  # what a scheme does not keep follows from what the field does not
        return sorted(found, key=lambda pair: (order.get(pair[0].kind, 1), -pair[0].ratio(pair[1])))

    @property
    def tries(self) -> int:
        """Pairs in all."""
        return sum(finding.tries for _, finding in self.findings)

    @property
    def word(self) -> str:
        """``"holds"`` or ``"BROKEN"``; for what is not certified ``"not certified"`` or ``"refuted"``."""
        if self.certified:
            return "BROKEN" if self.broken else "holds"
        return "refuted" if self.broken else "not certified"

    def records(self) -> Iterator[dict[str, object]]:
        """The lines of ``verify.jsonl``, one a claim: numbers at full precision, pairs where they break it."""
        for claim, finding in self.findings:
            row: dict[str, object] = {
                "dynamics": self.name,
                "norm": self.norm,
                "certified": self.certified,
                "verdict": self.word,
                "kind": claim.kind,
                "claim": claim.what,
                "graph": claim.graph,
                "claimed": _json(claim.constant),
                "found": _json(finding.value),
                "ratio": _json(claim.ratio(finding)),
                "tries": finding.tries,
                "broken": claim.broken_by(finding),
            }
            if claim.broken_by(finding):
                row |= {"x": finding.x.tolist(), "y": finding.y.tolist()}
            yield row


def _json(value: float) -> float | str:
    """JSON knows no infinity and no NaN: their names."""
    return value if math.isfinite(value) else str(value)


def select(wanted: Sequence[str] | None = None) -> list[str]:
    """The names in ``wanted``, all of them of a dynamics or a field; every registered name if there are none.

    Raises:
        ValueError: if a name is unknown, or given twice.
    """
    known = [*DYNAMICS, *FIELDS]
    if strangers := [name for name in wanted or () if name not in known]:
        raise ValueError(unknown("dynamics or field", strangers, known))
    if wanted is not None and (twice := [name for name in wanted if wanted.count(name) > 1]):
        raise ValueError(f"the name {twice[0]!r} is given twice; give each once")
    return list(wanted or known)


def verify(names: Sequence[str] | None = None, *, tries: int = 2000, seed: int = 0) -> Iterator[Verdict]:
    """Try every claim of the named dynamics and fields, or of all that are registered.

    Args:
        names: of :data:`contractive_gnn.dynamics.DYNAMICS` and :data:`contractive_gnn.dynamics.FIELDS`.
        tries: pairs for each, shared out over its claims.
        seed: of parameters, states and pairs.

    Raises:
        ValueError: for an unknown name, or fewer than one try.
    """
    if tries < 1:
        raise ValueError(f"tries must be at least 1, got {tries!r}")
    for name in select(names):
        if name in FIELDS:
            yield verify_field(name, FIELDS.get(name), tries=tries, seed=seed)
        else:
            yield verify_one(name, lambda name=name: registry.build(name, CHANNELS), tries=tries, seed=seed)  # type: ignore[misc]


def verify_field(name: str, make: Callable[[], VectorField], *, tries: int = 2000, seed: int = 0) -> Verdict:
    """Try every claim of the field that ``make`` builds, each time with other parameters and another anchor.

    Args:
        name: for the verdict.
        make: builds it anew; it defines ``state``, and what it returns is small: of what is conserved the whole
            Jacobian is looked at.
        tries: pairs, or states, in all.
        seed: of parameters, states and pairs.

    Raises:
        ValueError: for a field that declares nothing that can be tried.
        NotImplementedError: for one without ``state``.
    """
    todo: list[tuple[Claim, Search]] = []
    certified, norm = True, ""
    for index in range(DRAWS):
        field = drawn(make, seed + index)
        generator = torch.Generator().manual_seed(seed + index)
        x = field.state(generator=generator)
        field = field.anchored(field.state(generator=generator))
        certified, norm = certified and field.certified, str(field.norm)
        todo += field_claims(field, x, name=f"draw {index}")
    todo.sort(key=lambda pair: pair[0].kind == "kept")
    return Verdict(name, norm, certified, _tried(name, todo, tries, seed))


def drawn(make: Callable[[], VectorField], seed: int) -> VectorField:
    """A field in float64 with parameters that are not at their start."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return randomised(make(), seed=seed)


def _tried(name: str, todo: Sequence[tuple[Claim, Search]], tries: int, seed: int) -> tuple[tuple[Claim, Finding], ...]:
    """Every claim with what its search found, the tries shared out over them.

    Raises:
        ValueError: where there is nothing to try.
    """
    if not todo:
        raise ValueError(f"{name} declares nothing that can be tried: a rate, a step, or a constant")
    others = sum(claim.kind != "kept" for claim, _ in todo)  # few tries, beside theirs
    share = math.ceil(tries / max(others, 1))
    return tuple((claim, search(share, seed + index)) for index, (claim, search) in enumerate(todo))


def verify_one(name: str, make: Callable[[], Dynamics], *, tries: int = 2000, seed: int = 0) -> Verdict:
    """Try every claim of the dynamics that ``make`` builds, on each graph with other parameters.

    Args:
        name: for the verdict.
        make: builds it anew.
        tries: pairs in all.
        seed: of parameters, states and pairs.
    """
    todo: list[tuple[Claim, Search]] = []
    certified, norm = True, ""
    for index, (graph_name, graph) in enumerate(battery(seed).items()):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed + index)
            dynamics = randomised(make(), seed=seed + index)
        certified, norm = certified and dynamics.certified, dynamics.norm
        todo += claims(dynamics, graph, name=graph_name, channels=CHANNELS, seed=seed + index)
    # The place of a claim gives the seed of its search: what came later to the list goes to its end.
    todo.sort(key=lambda pair: (pair[0].kind in ("field", "conserved", "kept"), pair[0].kind == "kept"))
    findings = _tried(name, todo, tries, seed)
    return Verdict(name, norm, certified, (*findings, *_uniformity(make, seed)))


def _uniformity(make: Callable[[], Dynamics], seed: int) -> list[tuple[Claim, Finding]]:
    """What calls itself uniform has the same rate, largest step and constants on every graph of the battery."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        dynamics = randomised(make(), seed=seed)
    if not dynamics.uniform:
        return []
    rows = []
    for graph in battery(seed).values():
        longest = number(dynamics.max_step(graph))
        rows.append(
            [number(dynamics.rate(graph)), longest, *(number(dynamics.lipschitz(graph, h)) for h in (0.1, 1.0))]
        )
    spread = max((max(column) - min(column) if min(column) < math.inf else 0.0) for column in zip(*rows, strict=True))
    nothing = torch.zeros(0, 0)
    return [(Claim("uniform", "the same on every graph", "all", 0.0), Finding(spread, len(rows), nothing, nothing))]
