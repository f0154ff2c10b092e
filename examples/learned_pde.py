r"""
Learn an equation from pixels
=============================

A network of a hundred weights learns to move a picture as advection does: two small convolutions with a ReLU between
them, and steps that are put back on the sphere of their start, so that the norm is kept.
"""

# %%
# Solutions of :math:`u_t + v \cdot \nabla u = 0` on a periodic grid of 48 × 48 pixels; the velocity is not given.
import matplotlib.pyplot as plt
import torch

from contractive_gnn.datasets.pdes import load_pde
from contractive_gnn.dynamics.pdes import untrained_network
from contractive_gnn.integrators import SphereProjection
from contractive_gnn.nn import Flow
from contractive_gnn.palette import STYLE
from contractive_gnn.training.pdes import PixelFitOptions, fit_pixels, relative_errors, rollout

size, steps = 48, 40
data, test = (
    load_pde("advection", count=count, steps=steps, size=size, waves=(1, 3), seed=seed, dtype=torch.float64)
    for count, seed in ((16, 0), (4, 1))
)

# %%
# The network as a vector field, and three Euler steps of it from one picture to the next.
torch.manual_seed(0)
field = untrained_network((size, size), bias=2.0).double()
sphere = SphereProjection("euler", dim=(-3, -2, -1))
model = Flow(field, num_steps=3, step=1 / 3, constrained=False, scheme=sphere)

# %%
# Train it one step ahead, then three, from starts with noise.
options = PixelFitOptions(horizons=(1, 3), rounds=1, iterations=60, noise=0.01)
fit_pixels(model, data, options, val=test, progress=False)
with torch.no_grad():
    predicted = rollout(model, test.states[:, 0], steps)
norms = predicted.flatten(2).norm(dim=2)
error = float(relative_errors(model, test)[:, -1].mean())
print(f"after {steps} steps: error {error:.1e}, norm within {float((norms / norms[:, :1] - 1).abs().max()):.0e}")

# %%
# A solution that it has not seen, the prediction from its start, and their difference.
true, found = test.states[0, -1, 0], predicted[0, -1, 0]
pictures = {
    "start": test.states[0, 0, 0],
    "solution": true,
    "prediction": found,
    "10 × difference": 10 * (found - true),
}
plt.style.use(STYLE)
figure, panels = plt.subplots(1, 4, figsize=(11, 3.2), layout="constrained")
for axes, (title, picture) in zip(panels, pictures.items(), strict=True):
    signed = title.endswith("difference")
    image = axes.imshow(
        picture, cmap="PuOr" if signed else "cividis", vmin=-1 if signed else 0, vmax=1 if signed else 2
    )
    axes.set_title(title)
    axes.axis("off")
    if title != "start" and title != "prediction":
        figure.colorbar(image, ax=axes, shrink=0.7)
plt.show()
