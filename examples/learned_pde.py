"""Learn an equation from pixels: a network of a hundred weights that moves a picture as advection does.

python examples/learned_pde.py --quick --out build/learned_pde
"""

# %% The options, and the parts
import argparse
from pathlib import Path

import torch
from PIL import Image

from contractive_gnn.datasets.pdes import load_pde
from contractive_gnn.dynamics.pdes import FiniteDifferences, exact_network, fisher, untrained_network
from contractive_gnn.integrators import SphereProjection
from contractive_gnn.nn import Flow
from contractive_gnn.training.pdes import PixelFitOptions, fit_pixels, relative_errors, rollout

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--quick", action="store_true", help="fewer pixels and fewer iterations")
parser.add_argument("--out", type=Path, default=Path("learned_pde"), help="folder of the picture and the animation")
given = parser.parse_args()
given.out.mkdir(parents=True, exist_ok=True)
size, iterations = (48, 60) if given.quick else (100, 300)

# %% An equation on a grid is exactly a network: two convolutions with the square of a ReLU between them
equation = fisher((size, size), alpha=0.01, spacing=1 / size)
u = torch.rand(1, size, size, dtype=torch.float64)
differences, network = (make(equation, dtype=torch.float64) for make in (FiniteDifferences, exact_network))
largest = float((differences(u) - network(u)).abs().max() / differences(u).abs().max())
print(f"Fisher's equation by finite differences and by a network differ by {largest:.1e}")

# %% A network of that form with random weights, three substeps of Euler, each put back on the sphere of its start
data, test = (
    load_pde("advection", count=count, steps=40, size=size, waves=(1, 3), seed=seed, dtype=torch.float64)
    for count, seed in ((16, 0), (4, 1))
)
torch.manual_seed(0)
field = untrained_network((size, size), bias=2.0).double()
sphere = SphereProjection("euler", dim=(-3, -2, -1))
model = Flow(field, num_steps=3, step=1 / 3, constrained=False, scheme=sphere)

# %% Train it: one step ahead, then three, from starts with noise, so that it finds back to what it has seen
options = PixelFitOptions(horizons=(1, 3), rounds=2, iterations=iterations, noise=0.01)
for one in fit_pixels(model, data, options, val=test, progress=False).rounds:
    print(f"horizon {one.horizon}: loss {one.loss:.1e}, error after 40 steps {one.val_error:.1e}")

# %% What it predicts: the norm is kept, and the pattern goes where it should
with torch.no_grad():
    predicted = rollout(model, test.states[:, 0], 40)
norms = predicted.flatten(2).norm(dim=2)
errors = relative_errors(model, test).mean(dim=0)
print(f"after 40 steps: error {float(errors[-1]):.1e}, norm within {float((norms / norms[:, :1] - 1).abs().max()):.0e}")


# %% Solution, prediction and ten times their difference: a picture of the end, and an animation
def frame(time: int) -> Image.Image:
    """Three panels beside each other, between white and black."""
    true, found = test.states[0, time, 0], predicted[0, time, 0]
    gap = torch.ones(size, 2, dtype=torch.float64)
    panels = torch.cat([true / 2, gap, found / 2, gap, 0.5 + 10 * (found - true)], dim=1).clamp(0, 1)
    picture = Image.fromarray((255 * panels).byte().numpy())
    scale = max(1, 160 // size)
    return picture.resize((scale * picture.width, scale * picture.height), Image.Resampling.NEAREST)


frames = [frame(time) for time in range(41)]
frames[-1].save(given.out / "advection.png")
frames[0].save(given.out / "advection.gif", save_all=True, append_images=frames[1:], duration=80, loop=0)
