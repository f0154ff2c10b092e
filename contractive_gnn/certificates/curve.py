r"""Accuracy against ε: what is certified and what attacks leave, in one table and one picture."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from contractive_gnn.extras import needs
from contractive_gnn.lines import replacing
from contractive_gnn.palette import COLOURS, MARKERS, STYLE

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Kind = Literal["certified", "attacked"]


def certified_accuracy(radii: Tensor, correct: Tensor, epsilons: Sequence[float]) -> tuple[float, ...]:
    r"""Percent of the inputs that are right and stay so under every change of length ε, for each ε.

    .. math:: 100 \cdot \frac{1}{n} \#\{i : \hat y_i = y_i,\ r_i \ge \epsilon\}

    Args:
        radii: certified radii of the predictions, ``[n]``, as of
            :func:`~contractive_gnn.certificates.lipschitz_radius`: inputs *closer* than r are predicted alike, and at
            distance r exactly there may be a tie.
        correct: whether each prediction is right, bool ``[n]``.
        epsilons: at least 0. At ε = 0 it is the accuracy, without ties.

    Returns:
        one number for each ε, none larger than the one before where ε grows.

    Raises:
        ValueError: for shapes that differ, no inputs, radii that are negative or no numbers, and negative ε.

    Example:
        >>> certified_accuracy(torch.tensor([0.3, 0.1]), torch.tensor([True, True]), [0.0, 0.2, 0.4])
        (100.0, 50.0, 0.0)
    """
    if radii.dim() != 1 or radii.shape != correct.shape or correct.dtype != torch.bool or not len(radii):
        raise ValueError(
            f"radii and correct (bool) must have one shape [n], n ≥ 1, got {list(radii.shape)} and {correct.dtype} "
            f"{list(correct.shape)}"
        )
    if not bool((radii >= 0).all()):
        raise ValueError("radii must be at least 0: give those of the predictions, and the wrong ones in correct")
    if not all(math.isfinite(epsilon) and epsilon >= 0 for epsilon in epsilons):
        raise ValueError(f"epsilons must be finite and at least 0, got {list(epsilons)}")
    right = radii[correct].double()
    return tuple(
        100.0 * float(((right >= epsilon) & (right > 0)).sum()) / len(radii) for epsilon in map(float, epsilons)
    )


@dataclass(frozen=True)
class Curve:
    """Accuracy at several ε, of one kind of network, over one or more seeds.

    Args:
        label: of the network; curves of one label have one colour.
        kind: ``"certified"`` (a lower bound of the robust accuracy) or ``"attacked"`` (an upper bound).
        epsilons: rising.
        values: for each seed one number for each ε, in percent.

    Raises:
        TypeError: for values that are not a tuple for each seed.
        ValueError: for ε that do not rise or are negative, and values that do not fit or are no percentages.
    """

    label: str
    kind: Kind
    epsilons: tuple[float, ...]
    values: tuple[tuple[float, ...], ...]

    def __post_init__(self) -> None:
        if self.kind not in ("certified", "attacked"):
            raise ValueError(f"kind must be 'certified' or 'attacked', got {self.kind!r}")
        if not self.epsilons or any(
            later <= earlier for earlier, later in zip(self.epsilons, self.epsilons[1:], strict=False)
        ):
            raise ValueError(f"the ε of {self.label!r} must rise, got {list(self.epsilons)}")
        if not all(math.isfinite(epsilon) and epsilon >= 0 for epsilon in self.epsilons):
            raise ValueError(f"the ε of {self.label!r} must be finite and at least 0, got {list(self.epsilons)}")
        if not all(isinstance(seed, tuple | list) for seed in self.values):
            raise TypeError(f"the values of {self.label!r} must be a tuple for each seed, got {self.values!r}")
        if not self.values or any(len(seed) != len(self.epsilons) for seed in self.values):
            raise ValueError(
                f"{self.label!r} must have {len(self.epsilons)} values for each seed, got "
                f"{[len(seed) for seed in self.values]}"
            )
        if not all(0 <= value <= 100 for seed in self.values for value in seed):
            raise ValueError(f"the values of {self.label!r} must be percentages")

    def mean(self) -> tuple[float, ...]:
        """Over the seeds, for each ε."""
        return tuple(statistics.fmean(at) for at in zip(*self.values, strict=True))

    def deviation(self) -> tuple[float, ...] | None:
        """The standard deviation over the seeds (n − 1 in the denominator); None for a single one."""
        if len(self.values) < 2:
            return None
        return tuple(statistics.stdev(at) for at in zip(*self.values, strict=True))

    def at(self, epsilon: float) -> str:
        """``mean``, or ``mean ± deviation``, at an ε; an em dash where it was not measured."""
        for index, known in enumerate(self.epsilons):
            if math.isclose(known, epsilon, rel_tol=1e-9, abs_tol=1e-12):
                deviation = self.deviation()
                mean = f"{self.mean()[index]:.1f}"
                return mean if deviation is None else f"{mean} ± {deviation[index]:.1f}"
        return "—"


def table(curves: Sequence[Curve], epsilons: Sequence[float], *, names: Sequence[str] | None = None) -> str:
    """A table in Markdown: a row for each curve, a column for each ε.

    Args:
        curves: in the order of the rows.
        epsilons: of the columns.
        names: of the columns, such as ``"36/255"``; None for the numbers.

    Raises:
        ValueError: there is no name for each ε, or a label holds a bar.
    """
    names = [f"{epsilon:.4g}" for epsilon in epsilons] if names is None else list(names)
    if len(names) != len(epsilons):
        raise ValueError(f"expected a name for each of {len(epsilons)} ε, got {len(names)}")
    if barred := [curve.label for curve in curves if "|" in curve.label]:
        raise ValueError(f"a label of a table must not hold '|', got {barred}")
    rows = [["network", "accuracy (%)", *(f"ε = {name}" for name in names)], ["---", "---", *["---:"] * len(names)]]
    rows += [[curve.label, curve.kind, *(curve.at(epsilon) for epsilon in epsilons)] for curve in curves]
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def picture(
    curves: Sequence[Curve],
    *,
    title: str = "",
    norm: str = "ℓ2",
    axes: Axes | None = None,
    out: Path | str | None = None,
) -> Figure:
    """All curves in one picture: attacked ones solid with marks, certified ones dashed, a colour a network.

    Bands are one standard deviation over the seeds to either side. Colours are told apart with every common colour
    vision, and networks have marks of their own.

    The figure is new and none of pyplot's, so ``plt.show()`` does not know it: save it, or draw into axes of your own.

    Args:
        curves: at least one.
        title: above it.
        norm: of ε, for the axis.
        axes: to draw into, as of ``plt.subplots()``, in the style that they were made in; None for a figure of its own.
        out: a file, ``….png``, ``….svg`` or ``….pdf``; None for none.

    Returns:
        the figure; with ``axes`` the one that they are in.

    Raises:
        ValueError: for no curves, and a file of another kind.
        MissingExtraError: matplotlib is not installed.

    Example:
        ``picture([Curve("ours", "certified", (0.0, 0.1), ((80.0, 70.0),))], out="curves.png")``
    """
    if not curves:
        raise ValueError("expected at least one curve")
    if out is not None and Path(out).suffix not in (".png", ".svg", ".pdf"):
        raise ValueError(f"out must end in .png, .svg or .pdf, got {str(out)!r}")
    with needs("images", "a picture of curves"):
        import matplotlib as mpl
        from matplotlib.figure import Figure
    if axes is not None:
        _draw(axes, curves, title, norm)
        axes.legend(frameon=False, fontsize=9)
        figure = axes.figure.figure  # of a part of a figure, the whole
        _save(figure, out)
        return figure
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(7.2, 4.4))
        axes = figure.add_subplot()
        _draw(axes, curves, title, norm)
        axes.legend(frameon=False, fontsize=9, loc="center left", bbox_to_anchor=(1.0, 0.5))
        _save(figure, out)
    return figure


def _draw(axes: Axes, curves: Sequence[Curve], title: str, norm: str) -> None:
    labels = list(dict.fromkeys(curve.label for curve in curves))
    for curve in curves:
        place = labels.index(curve.label)
        colour = COLOURS[place % len(COLOURS)]
        marks = curve.kind == "attacked"
        axes.plot(
            curve.epsilons,
            curve.mean(),
            color=colour,
            linestyle="-" if marks else "--",
            marker=MARKERS[(place + place // len(COLOURS)) % len(MARKERS)] if marks else "none",
            markersize=6,
            markeredgecolor="white",
            linewidth=2 if marks else 1.6,
            label=f"{curve.label}, {curve.kind}",
        )
        deviation = curve.deviation()
        if deviation is not None:
            pairs = list(zip(curve.mean(), deviation, strict=True))
            axes.fill_between(
                curve.epsilons,
                [mean - spread for mean, spread in pairs],
                [mean + spread for mean, spread in pairs],
                color=colour,
                alpha=0.15,
                linewidth=0,
            )
    axes.set_xlabel(f"ε, {norm} distance between images with pixels in [0, 1]")
    axes.set_ylabel("accuracy (%)")
    axes.set_title(title)
    axes.set_ylim(0, 100)
    axes.set_xlim(left=0)
    axes.grid(axis="y", color="#dddddd", linewidth=0.8)
    axes.set_axisbelow(True)


def _save(figure: Figure, out: Path | str | None) -> None:
    if out is not None:
        with replacing(Path(out)) as partial:
            figure.savefig(partial, dpi=160, bbox_inches="tight")
