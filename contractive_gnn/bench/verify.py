"""``contractive-gnn verify``: the falsifier over everything registered, in several processes, with a table."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.table import Table
from torch import Tensor

from contractive_gnn.bench.results import replacing
from contractive_gnn.bench.workers import run_jobs
from contractive_gnn.testing import Claim, Finding, Verdict, verify

RECORDS = "verify.jsonl"


@dataclass(frozen=True)
class Died:
    """A dynamics or field that got no verdict: its code raised an error, or the process ended.

    Attributes:
        name: the one it was at.
        reason: what is known.
    """

    name: str
    reason: str


@dataclass(frozen=True)
class VerifyJob:
    """Try every claim of one dynamics or field."""

    name: str
    tries: int
    seed: int

    def run(self) -> Iterator[Verdict | Died]:
        """Yields the verdict."""
        try:
            yield from verify([self.name], tries=self.tries, seed=self.seed)
        except Exception as error:  # of other people's code: the others are tried all the same
            yield Died(self.name, f"{type(error).__name__}: {error}")

    def rest(self) -> VerifyJob:
        """See :class:`~contractive_gnn.bench.workers.Job`."""
        return self

    def died(self, reason: str) -> Verdict | Died:
        """See :class:`~contractive_gnn.bench.workers.Job`."""
        return Died(self.name, reason)


def verdicts(names: Sequence[str], *, tries: int, seed: int, processes: int) -> Iterator[Verdict | Died]:
    """The verdict of each dynamics and field, as soon as it is there."""
    jobs = [VerifyJob(name, tries, seed) for name in names]
    with contextlib.closing(run_jobs([jobs], processes=processes)) as messages:
        yield from messages


def table(found: Sequence[Verdict]) -> Table:
    """One row a dynamics or field: the claim about its step that is tightest, or the claim that is broken."""
    made = Table(
        caption="ratio: found / claimed. 1: the bound is attained. Above 1: it is broken.\n"
        "kept to: the largest relative change, of what the flow and the schemes are said to keep."
    )
    for column in ("field", "claim", "claimed", "found", "ratio", "kept to", "tries"):
        right = column not in ("field", "claim")
        made.add_column(
            column,
            justify="right" if right else "left",
            no_wrap=column != "claim",
            min_width=16 if column == "claim" else None,
        )
    made.add_column("verdict", no_wrap=True)
    style = {"holds": "green", "BROKEN": "bold red", "refuted": "yellow", "not certified": "yellow"}
    for verdict in found:
        claim, finding = headline(verdict)
        numbers = (f"{claim.constant:.4f}", f"{finding.value:.4f}", f"{claim.ratio(finding):.4f}")
        ends = (kept_to(verdict), f"{verdict.tries:,}", f"[{style[verdict.word]}]{verdict.word}[/]")
        made.add_row(verdict.name, f"{claim.what}, {verdict.norm}, {claim.graph}", *numbers, *ends)
    return made


def headline(verdict: Verdict) -> tuple[Claim, Finding]:
    """The claim to show: the worst that is broken, else the tightest step, else any."""
    if verdict.broken:
        return verdict.broken[0]
    return verdict.worst("step") or verdict.findings[0]


def kept_to(verdict: Verdict) -> str:
    """The largest relative change of what is said to be kept, empty where nothing is."""
    found = [finding.value for claim, finding in verdict.findings if claim.kind in ("conserved", "kept")]
    return f"{max(found):.0e}" if found else ""


def counterexample(verdict: Verdict) -> str:
    """The pair that breaks the worst claim, as text: exact where it is small."""
    claim, finding = verdict.broken[0]
    bound = f"{claim.constant:.6g}"
    if claim.kind in ("conserved", "kept"):
        other = f"X(x) = {_matrix(finding.y)}"
    else:
        other = f"y − x = {_matrix(finding.y - finding.x)}"
    return "\n".join(
        [
            f"{verdict.name}: {claim.what}, claimed {bound} in {verdict.norm}, found {finding.value:.6g} "
            f"on {claim.graph}, with",
            f"x = {_matrix(finding.x)}",
            other,
        ]
    )


def _matrix(x: Tensor) -> str:
    table = x.reshape(-1, x.size(-1)) if x.dim() else x.reshape(1, 1)  # a state of any shape, by its last axis
    rows = ["[" + "  ".join(f"{value:8.4f}" for value in row) + "]" for row in table.tolist()]
    return "\n    ".join(rows)


def write(found: Sequence[Verdict], folder: Path) -> Path:
    """Write ``verify.jsonl``, one claim a line, under a temporary name first."""
    lines = (json.dumps(record, ensure_ascii=False) for verdict in found for record in verdict.records())
    with replacing(folder / RECORDS) as partial:
        partial.write_text("".join(line + "\n" for line in lines), encoding="utf-8")
    return folder / RECORDS
