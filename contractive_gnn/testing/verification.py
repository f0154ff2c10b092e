"""Try to break every constant that the registered dynamics declare."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch

from contractive_gnn.dynamics import Dynamics, registry
from contractive_gnn.norms import number
from contractive_gnn.testing.claims import Claim, Finding, Kind, Search, claims, randomised
from contractive_gnn.testing.graphs import battery

CHANNELS = 2


@dataclass(frozen=True, eq=False)
class Verdict:
    """What became of the claims of one dynamics.

    Attributes:
        name: of the dynamics.
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
        """The claims that a pair exceeded, with that pair, worst first."""
        found = [pair for pair in self.findings if pair[0].broken_by(pair[1])]
        return sorted(found, key=lambda pair: (pair[0].kind != "step", -pair[0].ratio(pair[1])))

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


def verify(names: Sequence[str] | None = None, *, tries: int = 2000, seed: int = 0) -> Iterator[Verdict]:
    """Try every claim of the named dynamics, or of all that are registered.

    Args:
        names: of :data:`contractive_gnn.dynamics.DYNAMICS`, plug-ins included.
        tries: pairs for each dynamics, shared out over its claims.
        seed: of parameters, states and pairs.

    Raises:
        ValueError: for an unknown name, or fewer than one try.
    """
    if tries < 1:
        raise ValueError(f"tries must be at least 1, got {tries!r}")
    for name in registry.select(names):
        yield verify_one(name, lambda name=name: registry.build(name, CHANNELS), tries=tries, seed=seed)  # type: ignore[misc]


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
    if not todo:
        raise ValueError(f"{name} declares nothing that can be tried: a rate, a step, or a constant")
    share = math.ceil(tries / len(todo))
    findings = [(claim, search(share, seed + index)) for index, (claim, search) in enumerate(todo)]
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
