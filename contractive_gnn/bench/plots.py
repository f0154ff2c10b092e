"""Pictures of a summary: accuracy against budget for each attack, and one overview."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from contractive_gnn.bench.results import NEW_NODES, replacing
from contractive_gnn.bench.summary import CLEAN, Anchor, Condition, Section, spread
from contractive_gnn.palette import COLOURS, MARKERS, STYLE


@dataclass(frozen=True)
class Picture:
    """A figure and what to call its files.

    Attributes:
        name: stem of the file names.
        caption: a sentence for under it.
        figure: the figure itself.
    """

    name: str
    caption: str
    figure: Figure

    def save(self, folder: Path) -> None:
        """Write NAME.png and NAME.svg."""
        for suffix in ("png", "svg"):
            with replacing(folder / f"{self.name}.{suffix}") as partial, mpl.rc_context(STYLE):
                self.figure.savefig(partial, dpi=160, bbox_inches="tight", metadata=_undated(suffix))


def _undated(suffix: str) -> dict[str, str | None]:
    return {"Date": None} if suffix == "svg" else {"Software": None}


def pictures(sections: Sequence[Section], anchors: Sequence[Anchor] = ()) -> list[Picture]:
    """The overview of every section, then one picture for each attack and threat in it.

    Several attacks in a row have none: at a budget of 0 of the first one the others would still be there.
    """
    drawn = []
    with mpl.rc_context(STYLE):
        for section in sections:
            which = "splits" if section.parts else section.split_seed
            prefix = "" if len(sections) == 1 else f"{section.dataset}-{section.split}-{which}_"
            drawn.append(_overview(section, prefix))
            threats: dict[str, list[str]] = {}
            for condition in section.conditions:
                if condition.attack == CLEAN or condition.chained:
                    continue
                if condition.threat not in threats.setdefault(condition.attack, []):
                    threats[condition.attack].append(condition.threat)
            for attack, kinds in threats.items():
                for threat in kinds:
                    curve = [c for c in section.conditions if (c.attack, c.threat) == (attack, threat)]
                    units = list(dict.fromkeys(c.budget_unit for c in curve))
                    for unit in units:
                        name = f"{prefix}accuracy_{_slug(attack)}"
                        name += f"_{threat}" if len(kinds) > 1 else ""
                        name += f"_{_slug(unit)}" if len(units) > 1 else ""
                        drawn.append(_curve(section, [c for c in curve if c.budget_unit == unit], name, anchors))
    return drawn


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


def _style(index: int) -> dict[str, object]:
    lap = index // len(COLOURS)
    return {
        "color": COLOURS[index % len(COLOURS)],
        "marker": MARKERS[(index + lap) % len(MARKERS)],  # a colour that comes again comes with another marker
        "linestyle": ("-", "--", ":")[lap % 3],
    }


def _curve(section: Section, conditions: list[Condition], name: str, anchors: Sequence[Anchor]) -> Picture:
    """Accuracy against budget, a line a model; the band is one standard deviation over seeds to either side."""
    conditions = sorted(conditions, key=lambda c: c.budget)
    first = conditions[0]
    scale = 100.0 if first.budget_unit.startswith("fraction") else 1.0
    figure = Figure(figsize=(7.2, 4.4))
    axes = figure.add_subplot()
    ends: list[tuple[float, float, str, str]] = []
    for index, model in enumerate(section.models):
        measured = [c for c in conditions if (c, model) in section.scores]
        if not measured:
            continue
        # The clean accuracy on the same nodes is the curve's value at budget 0.
        clean = section.scores[measured[0], model].clean
        budgets = [0.0, *(scale * c.budget for c in measured)]
        samples = [clean, *(section.scores[c, model].values for c in measured)]
        means = [sum(values) / len(values) for values in samples]
        spreads = [spread(values) or 0.0 for values in samples]
        style = _style(index)
        axes.plot(budgets, means, linewidth=2, markersize=6, markeredgecolor="white", **style)  # type: ignore[arg-type]
        axes.fill_between(
            budgets,
            [m - s for m, s in zip(means, spreads, strict=True)],
            [m + s for m, s in zip(means, spreads, strict=True)],
            color=str(style["color"]),
            alpha=0.15,
            linewidth=0,
        )
        ends.append((budgets[-1], means[-1], model, str(style["color"])))
        published = sorted((a for a in anchors if _same(a, section, first, model)), key=lambda a: a.budget)
        if published:
            axes.plot(
                [scale * a.budget for a in published],
                [a.accuracy for a in published],
                color=str(style["color"]),
                marker=str(style["marker"]),
                markerfacecolor="none",
                linestyle=":",
                linewidth=1,
            )
            last = published[-1]
            ends.append((scale * last.budget, last.accuracy, f"{last.model}, published", str(style["color"])))
    axes.set_xlabel(_budget_axis(first))
    nodes = f"{first.n_evaluated} test nodes" if first.evaluated_on == "test" else f"{first.n_evaluated} target nodes"
    axes.set_ylabel(f"accuracy on {nodes} (%)")
    axes.set_title(f"{first.attack} on {section.dataset}, {first.threat}")
    axes.grid(axis="y", color="#dddddd", linewidth=0.8)
    axes.set_axisbelow(True)
    ticks = sorted({0.0, *(scale * c.budget for c in conditions)})
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.margins(x=0.02)
    axes.set_ylim(_honest(*axes.get_ylim()))
    _label_ends(axes, ends)
    caption = (
        f"{first.attack} ({first.source}), {first.threat}, {section.title}: mean over {section.seeds_text}; "
        "the band is ± one standard deviation."
    )
    return Picture(name, caption, figure)


def _honest(low: float, high: float) -> tuple[float, float]:
    """Limits for percentages that do not make a difference of tenths look like a collapse."""
    if high - low < 10:
        middle = min((low + high) / 2, 95.5)
        low, high = middle - 5, middle + 5
    return max(0.0, low), min(100.5, high)


def _same(anchor: Anchor, section: Section, condition: Condition, model: str) -> bool:
    names = anchor.model.lower() == model.lower() and anchor.dataset == section.dataset
    return names and anchor.attack == condition.attack


def _budget_axis(condition: Condition) -> str:
    unit = condition.budget_unit
    if unit == "fraction of edges":
        return (
            "random edges added (% of the edges)" if condition.attack == "random" else "edges flipped (% of the edges)"
        )
    if unit == "fraction of feature entries":
        return "feature entries changed (% of the non-zero ones)"
    if unit == "fraction of each target's degree":
        return "edges flipped (% of each target's degree)"
    if unit.endswith("nodes"):
        return "nodes deleted (% of the nodes)" if unit.startswith("fraction") else "nodes deleted"
    if unit.startswith(NEW_NODES):
        return unit
    counted, _, per = unit.partition(" per ")
    return f"{counted} {'flipped' if counted == 'edges' else 'changed'}" + (f" per {per}" if per else "")


def _label_ends(axes: Axes, ends: list[tuple[float, float, str, str]]) -> None:
    """Names at the right ends of the lines, pushed apart where they would overlap."""
    low, high = axes.get_ylim()
    gap = (high - low) * 0.058
    placed = sorted(ends, key=lambda end: end[1])
    heights = [end[1] for end in placed]
    for _ in range(200):  # relax: each pair that is too close moves apart by half of what is missing
        moved = False
        for i in range(len(heights) - 1):
            missing = gap - (heights[i + 1] - heights[i])
            if missing > 1e-9:
                heights[i] -= missing / 2
                heights[i + 1] += missing / 2
                moved = True
        if not moved:
            break
    for (x, y, label, colour), height in zip(placed, heights, strict=True):
        axes.annotate(
            label,
            xy=(x, y),
            xycoords="data",
            xytext=(1.03, (height - low) / (high - low)),
            textcoords="axes fraction",
            color=colour,
            va="center",
            fontsize=9.5,
            annotation_clip=False,
            arrowprops={
                "arrowstyle": "-",
                "color": colour,
                "alpha": 0.35,
                "linewidth": 0.8,
                "shrinkA": 2,
                "shrinkB": 6,
            },
        )


def _overview(section: Section, prefix: str) -> Picture:
    """A row an attack and budget, a dot a model: who falls under what, at a glance."""
    rows = section.conditions
    figure = Figure(figsize=(7.6, 1.4 + 0.42 * len(rows)))
    axes = figure.add_subplot()
    for position, condition in enumerate(rows):
        accuracies = [section.scores[condition, m].mean for m in section.models if (condition, m) in section.scores]
        axes.plot([min(accuracies), max(accuracies)], [position] * 2, color="#cccccc", linewidth=3, zorder=1)
    for index, model in enumerate(section.models):
        own = [position for position, condition in enumerate(rows) if (condition, model) in section.scores]
        scores = [section.scores[rows[position], model] for position in own]
        shift = 0.6 * ((index + 0.5) / len(section.models) - 0.5)  # so that equal models do not hide one another
        places = [position + shift for position in own]
        style = _style(index)
        axes.errorbar(
            [score.mean for score in scores],
            places,
            xerr=[score.std or 0.0 for score in scores],
            color=str(style["color"]),
            marker=str(style["marker"]),
            linestyle="none",
            markersize=6,
            markeredgecolor="white",
            elinewidth=1,
            label=model,
            zorder=2,
        )
    axes.set_yticks(range(len(rows)), [_row_label(condition) for condition in rows])
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_xlim(_honest(*axes.get_xlim()))
    axes.set_xlabel("accuracy (%), mean ± standard deviation over " + ("splits" if section.parts else "seeds"))
    axes.grid(axis="x", color="#e5e5e5", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(axis="y", length=0)
    columns = 5
    axes.set_title(f"Robustness on {section.dataset}", pad=12 + 16 * math.ceil(len(section.models) / columns))
    axes.legend(
        loc="lower left", bbox_to_anchor=(0, 1.0), ncols=min(columns, len(section.models)), frameon=False,
        handletextpad=0.2, borderaxespad=0.2, columnspacing=1.2,
    )  # fmt: skip
    caption = f"Every attack of {section.title}: mean over {section.seeds_text}, a mark a model."
    return Picture(f"{prefix}overview", caption, figure)


def _row_label(condition: Condition) -> str:
    if condition.attack == CLEAN:
        return CLEAN
    return f"{condition.short} · {condition.threat}" + (" · targets" if condition.evaluated_on == "targets" else "")
