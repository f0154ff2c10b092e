r"""Every flow is a gradient and a turn: a field split in two, and a network made of both halves.

    python docs/experiments/approximation_pictures.py --out build/approximation

A smooth field is the gradient of a potential plus a field that is tangent to the circles around the origin (Presnov
2002), and ``presnov_halves`` finds both. ``halves.png`` shows them for Lotka's and Volterra's field. So a network of
gradient steps and of steps that keep the norm, in turn, can follow every flow. The swirl turns each circle by another
angle. ``swirl.png`` shows what a network of both halves makes of a grid, and what gradient steps alone make of it, with
as many parameters.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from contractive_gnn.datasets.maps import MAPS
from contractive_gnn.dynamics import presnov_halves
from contractive_gnn.nn import PresnovNet
from contractive_gnn.training.maps import MapError, MapFitOptions, fit_map, map_error

# %% A field and its halves


def lotka_volterra(x: Tensor) -> Tensor:
    """Prey and predators, as deviations from their equilibrium (1, 1)."""
    prey, predators = (x + 1).unbind(dim=-1)
    return torch.stack([prey * (1 - predators), predators * (prey - 1)], dim=-1)


def draw_halves(path: Path) -> float:
    """Draw the field, its gradient half with the potential, and its turning half; return the quadrature's error."""
    import matplotlib.pyplot as plt

    axis = torch.linspace(-0.9, 0.9, 15, dtype=torch.float64)
    fine = torch.linspace(-1, 1, 101, dtype=torch.float64)
    x = torch.cartesian_prod(axis, axis)
    halves = presnov_halves(lotka_volterra, x)
    potential = presnov_halves(lotka_volterra, torch.cartesian_prod(fine, fine)).potential.view(101, 101)
    radii = torch.cartesian_prod(fine, fine).norm(dim=1).view(101, 101)
    figure, panels = plt.subplots(1, 3, figsize=(10.5, 3.9), layout="compressed")
    shown = (
        ("the field", halves.gradient + halves.tangent, None),
        ("= ∇U, with the level lines of U", halves.gradient, potential),
        ("+ a field tangent to the circles", halves.tangent, radii),
    )
    for panel, (title, arrows, levels) in zip(panels, shown, strict=True):
        if levels is not None:
            panel.contour(fine, fine, levels.T, levels=12, colors="#bbbbbb", linewidths=0.8)
        panel.quiver(*x.T, *arrows.T, color="#0072B2", angles="xy", scale_units="xy", scale=9, width=0.007)
        panel.plot(0, 0, "o", color="#D55E00", markersize=4)
        panel.set(title=title, aspect="equal", xlim=(-1, 1), ylim=(-1, 1), xticks=[], yticks=[])
    figure.savefig(path, dpi=120)
    plt.close(figure)
    return halves.residual


# %% The swirl, by both halves and by gradients alone


def fitted(halves: Sequence[str], options: MapFitOptions) -> tuple[PresnovNet, MapError]:
    """A network of four blocks, fitted to 600 points of the disc, and its error on 4,000 others."""
    swirl = MAPS.get("swirl")
    x, test = swirl.points(600, seed=0), swirl.points(4000, seed=1)
    torch.manual_seed(0)
    net = PresnovNet(2, width=8, num_blocks=4, halves=halves).double()  # type: ignore[arg-type]
    fit_map(net, x, swirl(x), options)
    return net, map_error(net, test, swirl(test))


def grid(count: int = 9, fine: int = 200) -> list[Tensor]:
    """Circles and spokes of the unit disc."""
    angle = torch.linspace(0, 2 * torch.pi, fine, dtype=torch.float64)
    circle = torch.stack([angle.cos(), angle.sin()], dim=1)
    radius = torch.linspace(0, 1, fine, dtype=torch.float64)[:, None]
    circles = [share * circle for share in torch.linspace(0.2, 1, 5).tolist()]
    return circles + [radius * circle[index * (fine - 1) // (2 * count)] for index in range(2 * count)]


@torch.no_grad()
def draw_swirl(nets: dict[str, tuple[PresnovNet, MapError]], path: Path) -> None:
    """Draw the image of the grid under the map, and under each network."""
    import matplotlib.pyplot as plt

    swirl, lines = MAPS.get("swirl"), grid()
    figure, panels = plt.subplots(1, 1 + len(nets), figsize=(3.5 * (1 + len(nets)), 4.1), layout="compressed")
    maps = {"the swirl": swirl} | {
        f"{name}\nL² error {error.l2:.1e}, largest {error.largest:.1e}": net for name, (net, error) in nets.items()
    }
    for panel, (title, function) in zip(panels, maps.items(), strict=True):
        for index, line in enumerate(lines):
            image = function(line * (1 - 1e-9))
            panel.plot(*image.T, color="#0072B2" if index < 5 else "#D55E00", linewidth=1)
            if function is not swirl:
                panel.plot(*swirl(line * (1 - 1e-9)).T, color="black", linewidth=0.4, linestyle=":")
        panel.set(title=title, aspect="equal", xlim=(-1.15, 1.15), ylim=(-1.15, 1.15))
        panel.axis("off")
    figure.savefig(path, dpi=120)
    plt.close(figure)


def main(arguments: Sequence[str] | None = None) -> None:
    """Split, fit, draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--adam-steps", type=int, default=300)
    parser.add_argument("--lbfgs-steps", type=int, default=500)
    options = parser.parse_args(arguments)
    options.out.mkdir(parents=True, exist_ok=True)
    residual = draw_halves(options.out / "halves.png")
    print(f"Lotka and Volterra's field is split, to {residual:.0e}")
    fit = MapFitOptions(adam_steps=options.adam_steps, lbfgs_steps=options.lbfgs_steps)
    nets = {}
    for name, halves in (("both halves", ("gradient", "sphere")), ("gradient steps alone", ("gradient", "gradient"))):
        nets[name] = net, error = fitted(halves, fit)
        count = sum(parameter.numel() for parameter in net.parameters())
        print(f"{name}: {count} parameters, L² error {error.l2:.1e}, largest {error.largest:.1e}", flush=True)
    draw_swirl(nets, options.out / "swirl.png")


if __name__ == "__main__":
    main()
