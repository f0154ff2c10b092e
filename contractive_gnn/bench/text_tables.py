"""A grid as text that other programs read: Markdown, LaTeX and CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from typing import Final

from contractive_gnn.bench.certified_scores import CertifiedScore
from contractive_gnn.bench.grid import Cell, Grid
from contractive_gnn.bench.summary import Anchor, Section

CSV_COLUMNS: Final = (
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
    "n_splits",
    "source",
)
_LATEX: Final = str.maketrans(
    {
        "\\": r"\textbackslash{}",
        "&": r"\&",
        "%": r"\%",
        "$": r"\$",
        "#": r"\#",
        "_": r"\_",
        "{": r"\{",
        "}": r"\}",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        "±": r"$\pm$",
        "–": "--",
        "†": r"$^\dagger$",
    }
)


def markdown(grid: Grid) -> list[str]:
    """The lines of a table in Markdown."""
    head = ["model", *(column.head for column in grid.columns)]
    marks = ["---", *["---:"] * len(grid.columns)]
    body = [[row.label, *(f"**{c.whole}**" if c.best else c.whole for c in row.cells)] for row in grid.rows]
    return ["| " + " | ".join(_piped(text) for text in line) + " |" for line in (head, marks, *body)]


def _piped(text: str) -> str:
    return text.replace("|", "\\|")


def latex(grid: Grid, *, caption: str, label: str) -> str:
    """A ``table`` for a paper; it needs the package booktabs. Published rows are in italics, under a rule."""
    columns = grid.columns
    lines = [
        r"\begin{table}",
        r"  \centering",
        f"  \\caption{{{_escaped(caption)}}}",
        f"  \\label{{tab:{label}}}",
        f"  \\begin{{tabular}}{{l{'r' * len(columns)}}}",
        r"    \toprule",
        "    " + " & ".join(["model", *(_escaped(column.name) for column in columns)]) + r" \\",
    ]
    if any(column.detail for column in columns):
        details = [f"\\footnotesize {_escaped(column.detail)}" if column.detail else "" for column in columns]
        lines.append("    " + " & ".join(["", *details]) + r" \\")
    lines.append(r"    \midrule")
    ruled = False
    for row in grid.rows:
        if row.source and not ruled:
            lines.append(r"    \midrule")
            ruled = True
        name = f"\\textit{{{_escaped(row.label)}}}" if row.source else _escaped(row.label)
        cells = [_latex_cell(cell, published=bool(row.source)) for cell in row.cells]
        lines.append("    " + " & ".join([name, *cells]) + r" \\")
    return "\n".join([*lines, r"    \bottomrule", r"  \end{tabular}", r"\end{table}", ""])


def _latex_cell(cell: Cell, *, published: bool) -> str:
    text = _escaped(cell.text)
    if cell.best:
        text = f"\\textbf{{{text}}}"
    elif published:
        text = f"\\textit{{{text}}}"
    return f"{text} {{\\footnotesize({_escaped(cell.why)})}}" if cell.why else text


def _escaped(text: str) -> str:
    return text.translate(_LATEX)


def as_csv(sections: Sequence[Section], anchors: Sequence[Anchor], certified: Sequence[CertifiedScore] = ()) -> str:
    """One line for each model and condition: measured, published, or certified (a bound).

    A mean over splits has no ``split_seed`` and says in ``n_splits`` how many; the lines of each split follow.
    """
    file = io.StringIO()
    writer = csv.DictWriter(file, CSV_COLUMNS, lineterminator="\n")
    writer.writeheader()
    for section in (each for whole in sections for each in (whole, *whole.parts)):
        where = {"dataset": section.dataset, "split": section.split, "split_seed": section.split_seed}
        for condition in section.conditions:
            row: dict[str, object] = {
                **where,
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
                    counted = "n_splits" if section.parts else "n_seeds"
                    measured = {"accuracy": f"{score.mean:.4f}", "std": std, counted: score.n}
                    writer.writerow({**row, "model": model, "origin": "measured", **measured})
            for anchor in anchors:
                if anchor.matches(section.dataset, condition):
                    numbers = {"accuracy": anchor.accuracy, "std": anchor.std, "source": anchor.source}
                    writer.writerow({**row, "model": anchor.model, "origin": "published", **numbers})
    for bound in certified:
        score = bound.certified
        writer.writerow(
            {
                "dataset": bound.dataset,
                "split": bound.split,
                "split_seed": bound.split_seed,
                "attack": bound.certificate,
                "threat": "evasion",
                "budget": bound.budget,
                "budget_unit": bound.budget_unit,
                "evaluated_on": "test",
                "model": bound.model,
                "origin": "certified",
                "accuracy": f"{score.mean:.4f}",
                "std": "" if score.std is None else f"{score.std:.4f}",
                "n_seeds": score.n,
            }
        )
    return file.getvalue()
