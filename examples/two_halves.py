r"""
A field is a gradient and a turn
================================

Every smooth vector field is the gradient of a potential plus a field that is tangent to the circles around the origin.
``presnov_halves`` finds both, at any points, in any dimension.
"""

# %%
# The field of Lotka and Volterra, prey and predators as deviations from their equilibrium.
import matplotlib.pyplot as plt
import torch

from contractive_gnn.dynamics import presnov_halves
from contractive_gnn.palette import COLOURS, STYLE


def lotka_volterra(x):
    """The right-hand side, for points in the last axis."""
    prey, predators = (x + 1).unbind(dim=-1)
    return torch.stack([prey * (1 - predators), predators * (prey - 1)], dim=-1)


# %%
# Split it. The two halves add up, to rounding.
axis = torch.linspace(-0.9, 0.9, 15, dtype=torch.float64)
x = torch.cartesian_prod(axis, axis)
halves = presnov_halves(lotka_volterra, x)
print(
    f"largest error of the sum: {float((halves.gradient + halves.tangent - lotka_volterra(x)).norm(dim=1).max()):.0e}"
)

# %%
# Arrows, with the level lines of the potential and of the distance from the origin. A network whose layers are steps of
# both kinds in turn can follow every flow.
fine = torch.linspace(-1, 1, 101, dtype=torch.float64)
places = torch.cartesian_prod(fine, fine)
potential = presnov_halves(lotka_volterra, places).potential.view(101, 101)
plt.style.use(STYLE)
figure, panels = plt.subplots(1, 3, figsize=(10.5, 3.8), layout="constrained")
shown = {
    "the field": (lotka_volterra(x), None),
    "= a gradient": (halves.gradient, potential),
    "+ a turn": (halves.tangent, places.norm(dim=1).view(101, 101)),
}
for axes, (title, (arrows, levels)) in zip(panels, shown.items(), strict=True):
    if levels is not None:
        axes.contour(fine, fine, levels.T, levels=12, colors="#bbbbbb", linewidths=0.8)
    axes.quiver(*x.T, *arrows.T, color=COLOURS[0], angles="xy", scale_units="xy", scale=9, width=0.007)
    axes.set(title=title, xlabel="prey - 1", ylabel="predators - 1", aspect="equal", xlim=(-1, 1), ylim=(-1, 1))
plt.show()
