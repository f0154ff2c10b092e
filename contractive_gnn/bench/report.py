"""What a benchmark found, for people: tables, pictures and one HTML page that needs no other file."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from rich.console import Console
from rich.text import Text

from contractive_gnn.bench import page, terminal, text_tables
from contractive_gnn.bench.certified_scores import CertifiedScore, of_place, of_section, read_certificates
from contractive_gnn.bench.grid import Grid, breakdown_grids, caption, certified_caption, certified_grid, grid, sources
from contractive_gnn.bench.invocations import read_invocations
from contractive_gnn.bench.plots import pictures
from contractive_gnn.bench.results import CERTIFICATE, RESULTS, Result, read_results, replacing
from contractive_gnn.bench.summary import Anchor, Section, read_anchors, summarise


@dataclass(frozen=True)
class Report:
    """A report, read and computed; :meth:`write` puts it into files.

    Attributes:
        sections: a data set and split each.
        anchors: published numbers to show beside the measured ones.
        commands: the command lines that produced the results.
        results: all of them.
        certified: bounds to show beside what attacks found.
    """

    sections: tuple[Section, ...]
    anchors: tuple[Anchor, ...]
    commands: tuple[str, ...]
    results: tuple[Result, ...]
    certified: tuple[CertifiedScore, ...] = ()

    @classmethod
    def of(cls, folder: Path, *, anchors: Path | None = None, certified: Path | None = None) -> Report:
        """Read ``folder/results.jsonl``.

        Args:
            folder: of ``bench`` or of ``certify``.
            anchors: a CSV file of published numbers, see :func:`.read_anchors`.
            certified: the folder of ``certify`` whose bounds stand beside the attacked accuracies.

        Raises:
            ResultsError: there is none, or it cannot be read.
            ReportError: nothing is in it yet, or results of two kinds are; certificates of other models.
            AnchorError: the file of published numbers cannot be read.
        """
        results = read_results(folder / RESULTS)
        if not results:
            raise ReportError(f"{folder / RESULTS} holds no finished result yet")
        kinds = {result.attack.startswith(CERTIFICATE) for result in results}
        if len(kinds) > 1:
            raise ReportError(
                f"{folder / RESULTS} holds certificates and results of attacks, which share no table: a certified "
                "accuracy is a bound; move the lines of one kind to a folder of their own"
            )
        invocations = read_invocations(folder)
        sections = summarise(results, order=[model for run in invocations for model in run.models])
        if True in kinds:
            if certified is not None:
                raise ReportError(f"{folder} holds certificates itself; give --certified beside results of attacks")
            bounds = read_certificates(folder)
        else:
            bounds = () if certified is None else _beside(sections, read_certificates(certified), certified)
        return cls(
            sections=sections,
            anchors=() if anchors is None else read_anchors(anchors),
            commands=tuple(run.command for run in invocations),
            results=tuple(results),
            certified=bounds,
        )

    @property
    def bounds_alone(self) -> bool:
        """Whether it is a report of certificates, without results of attacks."""
        return any(result.attack.startswith(CERTIFICATE) for result in self.results)

    @cached_property
    def grids(self) -> tuple[Grid, ...]:
        """The table of each section."""
        return tuple(self.grid(section) for section in self.sections)

    def grid(self, section: Section) -> Grid:
        """The table of a section, or of one of its parts."""
        if self.bounds_alone:
            return certified_grid(of_place(self.certified, section))
        return grid(section, self.anchors, of_section(self.certified, section))

    def caption(self, section: Section) -> str:
        """What the numbers of a section's table are."""
        return certified_caption(section) if self.bounds_alone else caption(section)

    def write(self, folder: Path) -> list[Path]:
        """Write table.md, table.csv, table.tex, report.html and the pictures; returns the paths of the four."""
        drawn = pictures(self.sections, self.anchors)
        for picture in drawn:
            picture.save(folder)
        texts = {
            "table.md": self.markdown(),
            "table.csv": text_tables.as_csv(self.sections, self.anchors, () if self.bounds_alone else self.certified),
            "table.tex": self.latex(),
            "report.html": page.html(self, drawn, folder),
        }
        for name, text in texts.items():
            with replacing(folder / name) as partial:
                partial.write_text(text, encoding="utf-8")
        return [folder / name for name in texts]

    def print(self, console: Console) -> None:
        """The tables, on a terminal; of several splits their mean alone."""
        for section, table in zip(self.sections, self.grids, strict=True):
            console.print(Text(section.title, style="bold"))
            terminal.show(table, console)
            for title, parted in breakdown_grids(section):
                console.print(Text(title))
                terminal.show(parted, console)
            for text in (self.caption(section), *section.notes, *sources(table)):
                console.print(Text(text, style="dim"))
            console.print()

    def csv(self) -> str:
        """One line for each model and condition, measured, published or certified."""
        return text_tables.as_csv(self.sections, self.anchors, () if self.bounds_alone else self.certified)

    def markdown(self) -> str:
        """The tables in Markdown."""
        parts = ["# Robustness benchmark", ""]
        for section, table in zip(self.sections, self.grids, strict=True):
            parts += [f"## {section.title}", "", self.caption(section), "", *text_tables.markdown(table), ""]
            for title, parted in breakdown_grids(section):
                parts += [f"{title}:", "", *text_tables.markdown(parted), ""]
            if notes := [*section.notes, *sources(table)]:
                parts += [*(f"- {note}" for note in notes), ""]
            for part in section.parts:
                told = [*text_tables.markdown(self.grid(part)), "", *(f"- {note}" for note in part.notes)]
                parts += ["<details>", f"<summary>{part.title}</summary>", "", *told, "", "</details>", ""]
        parts += ["## How it was made", ""]
        parts += [f"- {label}: {', '.join(f'`{value}`' for value in values)}" for label, values in self.origin]
        return "\n".join(parts) + "\n"

    def latex(self) -> str:
        """The tables in LaTeX."""
        parts = ["% needs \\usepackage{booktabs}\n"]
        for section, table in zip(self.sections, self.grids, strict=True):
            text = " ".join([f"{section.title}. {self.caption(section)}", *sources(table)])
            parts.append(text_tables.latex(table, caption=text, label=f"{section.dataset}-{section.split}"))
        return "\n".join(parts)

    def tables(self) -> str:
        """The tables and their notes as a part of an HTML page."""
        return page.tables(self)

    @property
    def origin(self) -> list[tuple[str, list[str]]]:
        """How it was made: labels, each with its values."""
        commits = dict.fromkeys(
            "not run from a checkout"
            if r.commit is None
            else r.commit + (" + uncommitted changes" if r.uncommitted_changes else "")
            for r in self.results
        )
        versions = dict.fromkeys(
            ", ".join(f"{name} {version or 'not installed'}" for name, version in r.versions.items())
            for r in self.results
        )
        origin = [
            ("Command", list(self.commands)),
            ("Commit", list(commits)),
            ("Versions", list(versions)),
            ("Device", list(dict.fromkeys(r.device for r in self.results))),
        ]
        return [(label, values) for label, values in origin if values]


class ReportError(ValueError):
    """Nothing to report on."""


def _beside(
    sections: tuple[Section, ...], bounds: tuple[CertifiedScore, ...], folder: Path
) -> tuple[CertifiedScore, ...]:
    """Those of the sections' models.

    Raises:
        ReportError: there are none.
    """
    single = [part for section in sections for part in (section.parts or (section,))]
    found = tuple(bound for section in single for bound in of_section(bounds, section))
    if not found:
        there = ", ".join(dict.fromkeys(f"{b.model} on {b.dataset} (split {b.split})" for b in bounds))
        here = ", ".join(f"{model} on {s.dataset} (split {s.split})" for s in sections for model in s.models)
        raise ReportError(f"--certified {folder}: it certifies {there or 'nothing'}; the results are of {here}")
    return found
