r"""
A flow that untangles two moons
===============================

A network of small steps along vector fields moves points of the plane until a line separates the classes. The norms of
its weights are bounded, so each step is invertible: the points are bent apart, never torn.
"""

# %%
# Two half moons.
from itertools import pairwise

import matplotlib.pyplot as plt
import torch
from sklearn.datasets import make_moons
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits
from torch.nn.utils import parametrize

from contractive_gnn.dynamics import PerceptronField
from contractive_gnn.nn import Flow
from contractive_gnn.nn.parametrizations import spectral
from contractive_gnn.operators import Dense
from contractive_gnn.palette import COLOURS, STYLE

points, labels = make_moons(300, noise=0.08, random_state=0)
x, y = torch.tensor(1.3 * (points - [0.5, 0.25])).float(), torch.tensor(labels).float()


# %%
# Four fields :math:`A^\top \tanh(Bx + b)`, three Euler steps along each. With :math:`\|A\|, \|B\| \le 2` a step of
# :math:`0.9/4` has :math:`h \cdot \mathrm{Lip} \le 0.9 < 1`.
def flow(width=16, bound=2.0):
    """Three invertible steps along a field that is learned."""
    inner, outer = (spectral(Dense(nn.Parameter(torch.randn(width, 2))), bound=bound) for _ in range(2))
    field = PerceptronField(inner, "tanh", outer=outer, bias=nn.Parameter(torch.randn(width)))
    return Flow(field, num_steps=3, step=0.9 / bound**2, constrained=False)


torch.manual_seed(0)
flows, line = nn.ModuleList(flow() for _ in range(4)), nn.Linear(2, 1)

# %%
# Train both; a small price on the distance keeps the points from running further than they need.
optimizer = torch.optim.Adam([*flows.parameters(), *line.parameters()], lr=0.03)
for _ in range(150):
    with parametrize.cached():
        states = [x]
        for part in flows:
            states.append(part(states[-1]))
    travel = sum((after - before).square().mean() for before, after in pairwise(states))
    loss = binary_cross_entropy_with_logits(line(states[-1]).squeeze(-1), y) + 6e-3 * travel
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
accuracy = 100 * float(((line(states[-1]).squeeze(-1) > 0) == (y > 0)).double().mean())
print(f"{accuracy:.1f} % on the right side")

# %%
# On their way, with the decision boundary: the line at the end, pulled back through the steps that are still to come.
plt.style.use(STYLE)
figure, panels = plt.subplots(1, 3, figsize=(10, 3.7), layout="constrained")
for axes, k in zip(panels, (0, 2, 4), strict=True):
    reach = 1.1 * float(states[k].detach().abs().max())
    axis = torch.linspace(-reach, reach, 80)
    with torch.no_grad():
        side = line(nn.Sequential(*flows[k:])(torch.cartesian_prod(axis, axis))).view(80, 80).T
    axes.contourf(axis, axis, side > 0, levels=1, colors=(COLOURS[4], COLOURS[5]), alpha=0.3)
    for label in (0, 1):
        chosen = states[k].detach()[y == label]
        axes.scatter(*chosen.T, s=8, color=COLOURS[label], label=f"class {label}")
    axes.set(title=f"after {3 * k} of 12 steps", xlabel="x₁", ylabel="x₂", aspect="equal")
panels[0].legend(frameon=False)
plt.show()
