r"""What gradient steps and sphere-preserving steps approximate, together and alone, by depth and by width.

    python docs/experiments/approximation.py measure --out docs/results/approximation.jsonl
    python docs/experiments/approximation.py table --out docs/results/approximation.jsonl
    python docs/experiments/approximation.py picture --out docs/results/approximation.jsonl

The maps are those of ``contractive_gnn.datasets.maps``. The networks have the same number of steps and, up to a neuron,
of parameters; a block is two steps:

* ``both``: a gradient step and a sphere-preserving step;
* ``gradient``: two gradient steps;
* ``sphere``: two sphere-preserving steps;
* ``free``: two steps ``x + hAᵀ tanh(Bx + b)``, a residual network;
* ``gradient-invertible``: two gradient steps, each cut to 0.9 of the longest that is proved to be a diffeomorphism.

600 points of the ball (1,500 in three dimensions) to fit, 4,000 others to measure, float64. Adam, then L-BFGS. A line
for each map, network, number of blocks, width and seed (of the weights); a stopped run goes on where it was.

* ``l2``, ``largest``: root mean square and largest distance to the image, over the 4,000 points;
* ``least_determinant`` of the Jacobian over them;
* ``norm_error``: the largest ``|‖x⁺‖/‖x‖ − 1|`` of a sphere-preserving step of the trained network;
* ``contraction_share``: the largest ``−h λ_min(∇²U)`` of a gradient step, by a certified bound: below 1 each of them is
  a diffeomorphism.
"""

from __future__ import annotations

import argparse
import dataclasses
import statistics
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from appending import Key, Row, append, read
from pages import markdown, write_between
from torch import Tensor, nn

from contractive_gnn.bench.results import current_commit, current_versions
from contractive_gnn.datasets.maps import MAPS
from contractive_gnn.dynamics import PerceptronField
from contractive_gnn.extras import needs
from contractive_gnn.nn import Flow, PresnovNet
from contractive_gnn.operators import Dense
from contractive_gnn.palette import COLOURS, MARKERS, STYLE
from contractive_gnn.training.maps import MapFitOptions, fit_map, map_error

HALVES = {"both": ("gradient", "sphere"), "gradient": ("gradient", "gradient"), "sphere": ("sphere", "sphere")}
NETWORKS = ("both", "gradient", "sphere", "free", "gradient-invertible")
REACHED = ("swirl", "lotka-volterra", "abc-flow")
DEPTHS, WIDTHS = (1, 2, 4, 8, 16), (4, 8, 16, 32)
#: of the sweep over the other one
WIDTH, DEPTH = 8, 4
TIME, SHARE = 2.0, 0.9


def points(name: str) -> tuple[int, int]:
    """How many to fit, and how many to measure."""
    return (600 if MAPS.get(name).dim == 2 else 1500), 4000


def build(network: str, dim: int, width: int, blocks: int) -> nn.Module:
    """A network whose width is counted in neurons of ``both``: the others get as many parameters, up to a neuron."""
    if network == "free":
        wide = _matched(lambda neurons: 2 * neurons * (2 * dim + 1), dim, width)
        return nn.Sequential(*(_free(dim, wide, TIME / blocks) for _ in range(2 * blocks)))
    kind, _, invertible = network.partition("-")
    halves = HALVES[kind]

    def count(neurons: int) -> int:
        return sum(
            parameter.numel() for parameter in PresnovNet(dim, width=neurons, num_blocks=1, halves=halves).parameters()
        )

    wide = width if kind == "both" else _matched(count, dim, width)
    return PresnovNet(dim, width=wide, num_blocks=blocks, halves=halves, time=TIME, share=SHARE if invertible else None)


def _matched(count: Any, dim: int, width: int) -> int:
    """The width at which a block has about as many parameters as one of ``both``."""
    wanted = sum(parameter.numel() for parameter in PresnovNet(dim, width=width, num_blocks=1).parameters())
    return min(range(1, 4 * width + 1), key=lambda neurons: abs(count(neurons) - wanted))


def _free(dim: int, width: int, step: float) -> Flow:
    """A residual block, drawn as the others are."""
    inner, outer = (nn.Parameter(torch.randn(width, dim) / size**0.5) for size in (dim, width))
    bias = nn.Parameter(2 * torch.rand(width) - 1)
    field = PerceptronField(Dense(inner), "tanh", outer=Dense(outer), bias=bias)
    return Flow(field, num_steps=1, step=step, constrained=False)


@torch.no_grad()
def norm_error(network: nn.Module, x: Tensor) -> float | None:
    """How far a sphere-preserving step changes a norm, relative; None without one."""
    if not isinstance(network, PresnovNet) or "sphere" not in network.halves:
        return None
    states = network.stations(x)
    pairs = zip(network.halves, states[:-1], states[1:], strict=True)
    return max(
        float((after.norm(dim=1) / before.norm(dim=1) - 1).abs().max())
        for half, before, after in pairs
        if half == "sphere"
    )


def run(name: str, network: str, blocks: int, width: int, seed: int, options: MapFitOptions) -> dict[str, object]:
    """A fit, and what came of it."""
    chosen, (few, many) = MAPS.get(name), points(name)
    x, test = chosen.points(few, seed=0), chosen.points(many, seed=1)
    torch.manual_seed(seed)
    model = build(network, chosen.dim, width, blocks).double()
    fit = fit_map(model, x, chosen(x), options)
    error = map_error(model, test, chosen(test))
    return {
        "map": name,
        "network": network,
        "blocks": blocks,
        "width": width,
        "seed": seed,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "identity_l2": float((chosen(test) - test).square().sum(dim=1).mean().sqrt()),
        "fit_l2": fit.final,
        "adam_l2": fit.adam,
        **dataclasses.asdict(error),
        "norm_error": norm_error(model, test),
        "contraction_share": model.contraction_share() if isinstance(model, PresnovNet) else None,
        "lbfgs_steps": fit.lbfgs_steps,
        "seconds": fit.seconds,
        "options": dataclasses.asdict(options),
    }


def wanted(options: argparse.Namespace) -> Iterator[tuple[str, str, int, int, int]]:
    """What is asked for: seed by seed, the depths at one width, then the widths at one depth."""
    for seed in range(options.seeds):
        for width, depths in (
            (WIDTH, options.depths),
            *((width, (DEPTH,)) for width in options.widths if width != WIDTH),
        ):
            for blocks in depths:
                for name in options.maps:
                    for network in options.networks:
                        # the certified one by depth alone; the reflection is there for it
                        if network.endswith("invertible") and width != WIDTH:
                            continue
                        if name == "reflection" and (network == "sphere" or width != WIDTH):
                            continue
                        yield name, network, blocks, width, seed


def measure(options: argparse.Namespace) -> None:
    """A line for each fit that has none yet."""
    done = {_key(row) for row in read(options.out)}
    commit, changes = current_commit()
    fit = MapFitOptions(adam_steps=options.adam_steps, lbfgs_steps=options.lbfgs_steps)
    for key in wanted(options):
        if key in done:
            continue
        row = run(*key, fit) | {"commit": commit, "uncommitted_changes": changes, "versions": current_versions()}
        append(options.out, [row])
        print(
            f"{row['map']} {row['network']}, {row['blocks']} blocks, width {row['width']}, seed {row['seed']}: "
            f"{row['parameters']} parameters, l2 {row['l2']:.2e} (fitted {row['fit_l2']:.2e}), largest "
            f"{row['largest']:.2e}, det ≥ {row['least_determinant']:.2g}, {row['seconds']:.0f} s",
            flush=True,
        )


def _key(row: Row) -> Key:
    return row["map"], row["network"], row["blocks"], row["width"], row["seed"]


# %% Tables and pictures


def medians(rows: Sequence[Row], by: str, figure: str) -> dict[tuple[str, str], dict[int, float]]:
    """``(map, network) ↦ depth or parameters ↦`` the median over the seeds."""
    found: dict[tuple[str, str], dict[int, list[float]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        if row["width"] == WIDTH if by == "blocks" else row["blocks"] == DEPTH:
            found[row["map"], row["network"]][row[by]].append(row[figure])
    return {key: {at: statistics.median(of[at]) for at in sorted(of)} for key, of in found.items()}


def depth_table(rows: Sequence[Row], figure: str) -> str:
    """Medians by depth, a row for each map and network."""
    table = medians(rows, "blocks", figure)
    depths = sorted({depth for values in table.values() for depth in values})
    order = [(name, network) for name in MAPS for network in NETWORKS if (name, network) in table]
    body = [
        [name, network, *(f"{values[depth]:.1e}" if depth in values else "" for depth in depths)]
        for name, network in order
        for values in [table[name, network]]
    ]
    return markdown(["map", "network", *(f"{depth} block{'s' * (depth > 1)}" for depth in depths)], body)


def width_table(rows: Sequence[Row]) -> str:
    """Medians by parameters, at one depth."""
    body = []
    for (name, network), values in medians(rows, "parameters", "l2").items():
        if not network.endswith("invertible") and len(values) > 1:
            body.append([name, network, ", ".join(f"{value:.1e} ({count})" for count, value in values.items())])
    body.sort(key=lambda line: (list(MAPS).index(line[0]), NETWORKS.index(line[1])))
    return markdown(["map", "network", "error (parameters)"], body)


def least_errors() -> dict[str, float]:
    """The L² error that is left to every map that keeps the norm: ``‖f(x) − y‖ ≥ |‖x‖ − ‖y‖|``."""
    least = {}
    for name in REACHED:
        chosen = MAPS.get(name)
        x = chosen.points(points(name)[1], seed=1)
        least[name] = float((chosen(x).norm(dim=1) - x.norm(dim=1)).square().mean().sqrt())
    return least


def norms_table() -> str:
    """What is left to the sphere half alone."""
    return markdown(
        ["map", "L² error of any map that keeps the norm, at least"],
        [[k, f"{v:.1e}"] for k, v in least_errors().items()],
    )


def checks_table(rows: Sequence[Row]) -> str:
    """What was kept, over all lines of a network."""
    body = []
    for network in NETWORKS:
        own = [row for row in rows if row["network"] == network]
        if not own:
            continue
        norms = [row["norm_error"] for row in own if row["norm_error"] is not None]
        shares = [row["contraction_share"] for row in own if row["contraction_share"]]
        folded = sum(row["least_determinant"] <= 0 for row in own)
        body.append(
            [
                network,
                str(len(own)),
                f"{max(norms):.1e}" if norms else "",
                f"{max(shares):.2f}" if shares else "",
                f"{folded} of {len(own)}",
            ]
        )
    head = [
        "network",
        "fits",
        "norm error of a sphere step, at most",
        "−h λ_min, at most",
        "fits with det ≤ 0 somewhere",
    ]
    return markdown(head, body)


def picture(rows: Sequence[Row], file: Path) -> None:
    """The error by depth: a panel for each map."""
    with needs("images", "the picture"):
        import matplotlib.pyplot as plt
    table = medians(rows, "blocks", "l2")
    names = [name for name in MAPS if any(key[0] == name for key in table)]
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(
            1, len(names), figsize=(3.1 * len(names), 3.3), constrained_layout=True, squeeze=False
        )
        for axis, name in zip(axes[0], names, strict=True):
            for index, network in enumerate(NETWORKS):
                values = table.get((name, network))
                if values:
                    dashes = "--" if network.endswith("invertible") else "-"
                    axis.loglog(
                        list(values), list(values.values()), dashes, color=COLOURS[index], marker=MARKERS[index],
                        markersize=4, label=network,
                    )  # fmt: skip
            ticks = sorted({row["blocks"] for row in rows})
            axis.set_xticks(ticks, [str(tick) for tick in ticks])
            axis.minorticks_off()
            axis.set(title=name, xlabel="blocks of two steps")
        axes[0][0].set_ylabel("L² error")
        handles = {
            label: line for axis in axes[0] for line, label in zip(*axis.get_legend_handles_labels(), strict=True)
        }
        figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=len(handles), frameon=False)
        file.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(file, dpi=130)
        plt.close(figure)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a stage."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stage", choices=("measure", "table", "picture"))
    parser.add_argument("--out", type=Path, default=Path("docs/results/approximation.jsonl"))
    parser.add_argument("--page", type=Path, default=Path("docs/approximation.md"))
    parser.add_argument("--picture", type=Path, default=Path("docs/images/approximation.png"))
    parser.add_argument("--maps", nargs="+", choices=list(MAPS), default=[*REACHED, "reflection"])
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=NETWORKS)
    parser.add_argument("--depths", nargs="+", type=int, default=DEPTHS)
    parser.add_argument("--widths", nargs="+", type=int, default=WIDTHS)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--adam-steps", type=int, default=500)
    parser.add_argument("--lbfgs-steps", type=int, default=1000)
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    if options.stage == "measure":
        measure(options)
    elif options.stage == "table":
        rows = read(options.out)
        write_between(options.page, "depth", depth_table(rows, "l2"))
        write_between(options.page, "largest", depth_table(rows, "largest"))
        write_between(options.page, "width", width_table(rows))
        write_between(options.page, "checks", checks_table(rows))
        write_between(options.page, "norms", norms_table())
    else:
        picture(read(options.out), options.picture)


if __name__ == "__main__":
    main()
