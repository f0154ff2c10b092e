"""What a benchmark found, for people: tables, pictures and one HTML page that needs no other file."""

from __future__ import annotations

import csv
import html
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from contractive_gnn.bench.invocations import read_invocations
from contractive_gnn.bench.plots import Picture, pictures
from contractive_gnn.bench.results import CERTIFICATE, RESULTS, EvaluatedOn, Result, read_results, replacing
from contractive_gnn.bench.summary import (
    CLEAN,
    DOUBT,
    Anchor,
    Condition,
    Score,
    Section,
    number,
    read_anchors,
    summarise,
)

CSV_COLUMNS = (
    "dataset",
    "split",
    "split_seed",
    "attack",
    "threat",
    "budget",
    "budget_unit",
    "evaluated_on",
    "n_evaluated",
    "attack_source",
    "model",
    "origin",
    "accuracy",
    "std",
    "n_seeds",
    "source",
)


@dataclass(frozen=True)
class Report:
    """A report, read and computed; :meth:`write` puts it into files.

    Attributes:
        sections: a data set and split each.
        anchors: published numbers to show beside the measured ones.
        commands: the command lines that produced the results.
        results: all of them.
    """

    sections: tuple[Section, ...]
    anchors: tuple[Anchor, ...]
    commands: tuple[str, ...]
    results: tuple[Result, ...]

    @classmethod
    def of(cls, folder: Path, *, anchors: Path | None = None) -> Report:
        """Read ``folder/results.jsonl``.

        Raises:
            ResultsError: there is none, or it cannot be read.
            ReportError: nothing is in it yet, or results of two kinds are.
            AnchorError: the file of published numbers cannot be read.
        """
        results = read_results(folder / RESULTS)
        if not results:
            raise ReportError(f"{folder / RESULTS} holds no finished result yet")
        if len({result.attack.startswith(CERTIFICATE) for result in results}) > 1:
            raise ReportError(
                f"{folder / RESULTS} holds certificates and results of attacks, which share no table: a certified "
                "accuracy is a bound; move the lines of one kind to a folder of their own"
            )
        invocations = read_invocations(folder)
        return cls(
            sections=summarise(results, order=[model for run in invocations for model in run.models]),
            anchors=() if anchors is None else read_anchors(anchors),
            commands=tuple(run.command for run in invocations),
            results=tuple(results),
        )

    def write(self, folder: Path) -> list[Path]:
        """Write table.md, table.csv, the pictures and report.html; returns the paths of the first two and the last."""
        drawn = pictures(self.sections, self.anchors)
        for picture in drawn:
            picture.save(folder)
        paths = [folder / "table.md", folder / "table.csv", folder / "report.html"]
        for path, text in zip(paths, (self.markdown(), self.csv(), self.html(drawn, folder)), strict=True):
            with replacing(path) as partial:
                partial.write_text(text, encoding="utf-8")
        return paths

    def print(self, console: Console) -> None:
        """The tables, on a terminal."""
        for section in self.sections:
            console.print(Text(section.title, style="bold"))
            for block in _blocks(self._compact_grid(section), words=_COMPACT_WORDS, width=console.width):
                console.print(_rich(block, words=_COMPACT_WORDS))
            nodes = dict.fromkeys(condition.nodes_text for condition in section.conditions)
            marked = (f"{_TARGETS} {text}" if text.endswith("targets") else text for text in nodes)
            console.print(Text(f"{_caption(section)} Over {', '.join(marked)}.", style="dim"))
            for note in section.notes:
                console.print(Text(note, style="dim"))
            if published := self._published_grid(section):
                console.print(Text(f"{_PUBLISHED}:"))
                console.print(_rich(published, words=_WORDS))
            console.print()

    def csv(self) -> str:
        """One line for each model and condition, measured or published."""
        file = io.StringIO()
        writer = csv.DictWriter(file, CSV_COLUMNS, lineterminator="\n")
        writer.writeheader()
        for section in self.sections:
            for condition in section.conditions:
                row: dict[str, object] = {
                    "dataset": section.dataset,
                    "split": section.split,
                    "split_seed": section.split_seed,
                    "attack": condition.attack,
                    "threat": condition.threat,
                    "budget": condition.budget,
                    "budget_unit": condition.budget_unit,
                    "evaluated_on": condition.evaluated_on,
                    "n_evaluated": condition.n_evaluated,
                    "attack_source": condition.source,
                }
                for model in section.models:
                    if score := section.scores.get((condition, model)):
                        std = "" if score.std is None else f"{score.std:.4f}"
                        measured = {"accuracy": f"{score.mean:.4f}", "std": std, "n_seeds": score.n}
                        writer.writerow({**row, "model": model, "origin": "measured", **measured})
                for anchor in self._published(section, condition):
                    numbers = {"accuracy": anchor.accuracy, "std": anchor.std, "source": anchor.source}
                    writer.writerow({**row, "model": anchor.model, "origin": "published", **numbers})
        return file.getvalue()

    def markdown(self) -> str:
        """The tables in Markdown."""
        parts = ["# Robustness benchmark", ""]
        for section in self.sections:
            parts += [f"## {section.title}", "", _caption(section), "", *_markdown(self._grid(section)), ""]
            if section.notes:
                parts += [*(f"- {note}" for note in section.notes), ""]
            if published := self._published_grid(section):
                parts += [f"{_PUBLISHED}:", "", *_markdown(published), ""]
        parts += ["## How it was made", ""]
        parts += [f"- {label}: {', '.join(f'`{value}`' for value in values)}" for label, values in self._origin()]
        return "\n".join(parts) + "\n"

    def tables(self) -> str:
        """The tables and their notes as a part of an HTML page."""
        body = []
        for section in self.sections:
            body.append(f"<h2>{html.escape(section.title)}</h2><p>{html.escape(_caption(section))}</p>")
            body.append(_html(self._grid(section)))
            if section.notes:
                body.append("<ul>" + "".join(f"<li>{html.escape(note)}</li>" for note in section.notes) + "</ul>")
        return "\n".join(body)

    def html(self, drawn: Sequence[Picture], folder: Path) -> str:
        """One page: the tables, the pictures (inline, the SVG files that are in ``folder``), and how it was made."""
        body = [self.tables()]
        body.append("<h2>Pictures</h2><div class='pictures'>")
        for picture in drawn:
            svg = _inline((folder / f"{picture.name}.svg").read_text(encoding="utf-8"), picture.name)
            wide = " class='wide'" if picture.name.endswith("overview") else ""
            body.append(f"<figure{wide}>{svg}<figcaption>{html.escape(picture.caption)}</figcaption></figure>")
        body.append("</div>")
        for section in self.sections:
            if published := self._published_grid(section):
                body.append(f"<h2>{html.escape(section.dataset)}: numbers published by others</h2>")
                body.append(f"<p>Measured on their own splits and settings, not here.</p>{_html(published)}")
        body.append("<h2>How it was made</h2><dl>")
        for label, values in self._origin():
            body.append(f"<dt>{html.escape(label)}</dt>")
            body += [f"<dd><code>{html.escape(value)}</code></dd>" for value in values]
        body.append("</dl>")
        title = "Robustness benchmark: " + ", ".join(dict.fromkeys(section.dataset for section in self.sections))
        return _PAGE.format(title=html.escape(title), body="\n".join(body))

    def _published(self, section: Section, condition: Condition) -> list[Anchor]:
        return [anchor for anchor in self.anchors if anchor.matches(section.dataset, condition)]

    def _compact_grid(self, section: Section) -> list[list[_Cell]]:
        """The table for a terminal: two columns of words in place of four, and no published numbers beside."""
        head, *rows = Report(self.sections, (), (), ())._grid(section)
        compact = [[_Cell("attack"), *head[2:3], *head[4:]]]
        for row, condition in zip(rows, [*section.conditions, None, None], strict=False):
            name = row[0].text if condition is None else condition.short
            # the table says what is not the usual: numbers that are of the targets alone
            name += f" {_TARGETS}" if row[3].text.endswith("targets") else ""
            compact.append([_Cell(name), row[2], *row[4:]])
        return compact

    def _grid(self, section: Section) -> list[list[_Cell]]:
        """The table: a head, a row a condition, and the worst rows."""
        published = {
            model: {c: a for c in section.conditions for a in self._published(section, c) if a.model.lower() == model}
            for model in section.models
        }
        head = [_Cell(text) for text in ("attack", "budget", "threat", "accuracy on")]
        for model in section.models:
            head.append(_Cell(model))
            if published[model]:
                head.append(_Cell(f"{model}, published"))
        leading = {
            condition: max(anchors, key=lambda anchor: anchor.accuracy)
            for condition in section.conditions
            if (anchors := self._published(section, condition))
        }
        if leading:
            head.append(_Cell("best published"))
        grid = [head]
        several = len({score.n for score in section.scores.values()}) > 1
        for condition in section.conditions:
            published_graph = condition.source == "published" and not condition.chained
            row = [
                _Cell(condition.attack + (" (published)" if published_graph else "")),
                _Cell(condition.budget_text),
                _Cell("–" if condition.attack == CLEAN else condition.threat),
                _Cell(condition.nodes_text),
            ]
            best = _best(section.scores.get((condition, model)) for model in section.models)
            for model in section.models:
                row.append(_score_cell(section.scores.get((condition, model)), best, several))
                if published[model]:
                    anchor = published[model].get(condition)
                    row.append(_Cell("–" if anchor is None else number(anchor.accuracy, anchor.std), published=True))
            if leading:
                anchor = leading.get(condition)
                text = "–" if anchor is None else f"{number(anchor.accuracy, anchor.std)} ({anchor.model})"
                row.append(_Cell(text, published=True))
            grid.append(row)
        kinds: tuple[EvaluatedOn, ...] = ("test", "targets")
        for on in kinds:
            if len(section.attacked(on)) > 1:
                grid.append(self._worst_row(section, on, published) + [_Cell("", published=True)] * bool(leading))
        return grid

    def _worst_row(
        self, section: Section, on: EvaluatedOn, published: dict[str, dict[Condition, Anchor]]
    ) -> list[_Cell]:
        row = [_Cell(_WORST), _Cell(""), _Cell(""), _Cell("test nodes" if on == "test" else "targets")]
        worst = {model: section.worst(model, on) for model in section.models}
        complete = all(section.complete(model, on) for model in section.models)
        scores = {model: section.scores[c, model] for model, c in worst.items() if c is not None}
        best = _best(scores.values()) if complete else None
        for model in section.models:
            condition = worst[model]
            if condition is None:
                row.append(_Cell("–"))
            else:
                score = scores[model]
                partial = "" if section.complete(model, on) else ", not all attacks"
                doubt = DOUBT if score.unreliable else ""
                text = f"{number(score.mean, score.std)}{doubt} ({condition.short}{partial})"
                row.append(_Cell(text, best=best is not None and round(score.mean, 1) == best))
            if published[model]:
                row.append(_Cell("", published=True))
        return row

    def _published_grid(self, section: Section) -> list[list[_Cell]]:
        """Published numbers for the conditions of a section; empty where there are none."""
        rows = [
            [
                _Cell(condition.attack),
                _Cell(condition.budget_text),
                _Cell(anchor.model),
                _Cell(anchor.source),
                _Cell(number(anchor.accuracy, anchor.std), published=True),
            ]
            for condition in section.conditions
            for anchor in self._published(section, condition)
        ]
        return (
            [[_Cell(text) for text in ("attack", "budget", "model", "published in", "accuracy")], *rows] if rows else []
        )

    def _origin(self) -> list[tuple[str, list[str]]]:
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


@dataclass(frozen=True)
class _Cell:
    text: str
    best: bool = False
    published: bool = False


_WORST = "worst of these"
#: columns at the left that hold words; numbers follow
_WORDS = 4
_COMPACT_WORDS = 2
#: marks an accuracy over the targets in the terminal's table
_TARGETS = "*"
#: characters between two columns on a terminal
_PADDING = 3
#: characters of a mean with its standard deviation, the least width of a column
_NUMBER = 10
_PUBLISHED = "Published by others, on their own splits and settings; not measured here"


def _caption(section: Section) -> str:
    what = "of one seed" if section.seeds_text == "1 seed" else f"mean ± standard deviation over {section.seeds_text}"
    return (
        f"Accuracy in percent, {what}; best in bold; "
        "poisoning: retrained on the attacked graph; evasion: the model is frozen."
    )


def _best(scores: object) -> float | None:
    """The best mean as it is printed, so that equal prints are equally bold; None where there is nothing to compare."""
    means = [round(score.mean, 1) for score in scores if isinstance(score, Score)]  # type: ignore[attr-defined]
    return max(means) if len(means) > 1 else None


def _score_cell(score: Score | None, best: float | None, several: bool) -> _Cell:
    if score is None:
        return _Cell("–")
    text = number(score.mean, score.std) + (f" (n={score.n})" if several else "") + (DOUBT if score.unreliable else "")
    return _Cell(text, best=best is not None and round(score.mean, 1) == best)


def _rich(grid: list[list[_Cell]], *, words: int) -> Table:
    head, *rows = grid
    table = Table(box=box.SIMPLE_HEAD)
    for index, cell in enumerate(head):
        table.add_column(_narrow(cell.text), justify="left" if index < words else "right", overflow="fold")
    for row, following in zip(rows, [*rows[1:], None], strict=True):
        styles = ["bold" if cell.best else "italic dim" if cell.published else "" for cell in row]
        cells = [Text(_narrow(cell.text), style=style) for cell, style in zip(row, styles, strict=True)]
        worst_next = following is not None and following[0].text == _WORST and row[0].text != _WORST
        table.add_row(*cells, end_section=worst_next)
    return table


def _blocks(grid: list[list[_Cell]], *, words: int, width: int) -> list[list[list[_Cell]]]:
    """A table as several narrower ones, each with the columns of words, that fit ``width`` characters."""
    texts = [[_narrow(cell.text).split("\n") for cell in row] for row in grid]
    columns = [_PADDING + max(len(line) for row in texts for line in row[i]) for i in range(len(grid[0]))]
    blocks: list[list[int]] = [[]]
    for index in range(words, len(columns)):
        if blocks[-1] and sum(columns[i] for i in (*range(words), *blocks[-1], index)) > width:
            blocks.append([])
        blocks[-1].append(index)
    return [[[row[i] for i in (*range(words), *block)] for row in grid] for block in blocks]


def _narrow(text: str) -> str:
    """Broken where a cell may be: before and within a bracket, and behind the hyphen of a long name."""
    number, bracket, rest = text.partition(" (")
    if bracket:
        name, space, budget = rest.rstrip(")").partition(" ")
        if not space:
            return f"{number}\n({rest}"
        return f"{number}\n{name}{' ' if len(rest) <= _NUMBER else chr(10)}{budget}"
    name, hyphen, rest = text.partition("-")
    return f"{name}-\n{rest}" if hyphen and " " not in text and len(text) > _NUMBER else text


def _markdown(grid: list[list[_Cell]]) -> list[str]:
    head, *rows = grid
    marks = ["---" if index < _WORDS else "---:" for index in range(len(head))]
    body = [[f"**{cell.text}**" if cell.best else cell.text for cell in row] for row in rows]
    return ["| " + " | ".join(line) + " |" for line in ([cell.text for cell in head], marks, *body)]


def _html(grid: list[list[_Cell]]) -> str:
    head, *rows = grid
    parts = ["<div class='table'><table><thead><tr>", *(_html_cell("th", c, i) for i, c in enumerate(head))]
    parts.append("</tr></thead><tbody>")
    for row in rows:
        kind = " class='worst'" if row[0].text == _WORST else ""
        parts.append(f"<tr{kind}>" + "".join(_html_cell("td", cell, i) for i, cell in enumerate(row)) + "</tr>")
    return "".join([*parts, "</tbody></table></div>"])


def _html_cell(tag: str, cell: _Cell, index: int) -> str:
    kinds = {"number": index >= _WORDS, "best": cell.best, "published": cell.published}
    classes = " ".join(name for name, on in kinds.items() if on)
    text = html.escape(cell.text)
    if index >= _WORDS and tag == "td":
        text = text.replace(" (", "<br>(")
    return f"<{tag}" + (f' class="{classes}"' if classes else "") + f">{text}</{tag}>"


def _inline(svg: str, name: str) -> str:
    """An SVG file's drawing for use inside a page: without its XML head, and with ids that no other picture has."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r'\bid="([^"]+)"', rf'id="{name}-\1"', svg)
    svg = re.sub(r'href="#([^"]+)"', rf'href="#{name}-\1"', svg)
    svg = re.sub(r"url\(#([^)]+)\)", rf"url(#{name}-\1)", svg)
    return re.sub(
        r'(<svg[^>]*?) width="[^"]*"', r"\1", re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", svg, count=1), count=1
    )


_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
body {{ font: 16px/1.5 system-ui, sans-serif; color: #222; background: #fff; max-width: 76rem; margin: 2rem auto;
  padding: 0 1.5rem; }}
h1 {{ font-size: 1.6rem; }} h2 {{ font-size: 1.2rem; margin-top: 2.2rem; }}
.table {{ overflow-x: auto; }}
table {{ border-collapse: collapse; font-variant-numeric: tabular-nums; }}
th, td {{ padding: .35rem .9rem .35rem 0; white-space: nowrap; text-align: left; vertical-align: top;
  border-bottom: 1px solid #e5e5e5; }}
th {{ border-bottom: 2px solid #888; }}
td.number, th.number {{ text-align: right; }}
td.best {{ font-weight: 700; }}
td.published {{ color: #666; font-style: italic; }}
tr.worst td {{ background: #f6f6f6; }}
.pictures {{ display: grid; grid-template-columns: repeat(auto-fit, minmax(30rem, 1fr)); gap: 2rem;
  align-items: start; }}
figure {{ margin: 0; }} figure.wide {{ grid-column: 1 / -1; max-width: 50rem; }}
figure svg {{ width: 100%; height: auto; }}
figcaption, ul, dl {{ color: #444; font-size: .9rem; }}
dt {{ font-weight: 600; margin-top: .6rem; }} dd {{ margin: 0; overflow-wrap: anywhere; }}
@media (max-width: 34rem) {{ .pictures {{ grid-template-columns: 1fr; }} }}
</style>
</head>
<body>
<h1>{title}</h1>
{body}
</body>
</html>
"""
