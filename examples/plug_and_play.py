"""Fill in a photograph by Plug-and-Play, with a denoiser of your own and a certificate that the iteration converges.

python examples/plug_and_play.py --quick --out filled.png
"""

# %% The options, and the parts
import argparse
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor, nn

from contractive_gnn.activations import Huber
from contractive_gnn.datasets.images import load_photographs
from contractive_gnn.dynamics import GradientFlow
from contractive_gnn.inverse import DouglasRachford, Inpainting, composed
from contractive_gnn.operators import Stencil

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--quick", action="store_true", help="a small part of the photograph")
parser.add_argument("--out", type=Path, default="plug_and_play.png", help="the picture, .png or .jpg")
given = parser.parse_args()
if given.out.suffix not in (".png", ".jpg"):
    parser.error("--out must end in .png or .jpg")
given.out.parent.mkdir(parents=True, exist_ok=True)
side = 64 if given.quick else 256
torch.manual_seed(0)


# %% A denoiser: ten steps along ẋ = −Gᵀ clip(Gx), with the differences G. Edges stay, for the pull of a difference is
# bounded by the threshold. A step of length 1/‖G‖² is firmly non-expansive: 1/2-averaged.
class Smoothing(nn.Module):
    """Called as ``denoiser(x, sigma)``. What is proved of it are ``certified`` and ``averagedness()``."""

    certified = True
    differences = Stencil.gradient((side, side))

    def averagedness(self) -> float:
        """Of ten firm steps, one after the other."""
        return composed(*[1 / 2] * 10)

    def forward(self, x: Tensor, sigma: float) -> Tensor:
        """Remove noise of the standard deviation ``sigma``."""
        flow = GradientFlow(self.differences, Huber(sigma / 8))
        for _ in range(10):
            x = x + 0.5 * flow.max_step() * flow(x)
        return x


# %% A photograph, of which half of the pixels are missing
truth = load_photographs("samples")[1][None, :, 80 : 80 + side, 180 : 180 + side]
physics = Inpainting(torch.rand(side, side) < 0.5)
y = physics(truth + 0.01 * torch.randn_like(truth))

# %% The iteration, and what is proved of it
run = DouglasRachford(physics, Smoothing(), sigma=0.3, step=4.0).run(y, steps=60)
print(run.certificate)
print(f"last residual {float(run.residuals[-1]):.2g}, at most {float(run.bounds()[-1]):.2g} by the certificate")
print(f"PSNR {float(-10 * (run.image - truth).square().mean().log10()):.2f} dB")
row = torch.cat([y, run.image, truth], dim=3)[0, 0].clamp(0, 1)
Image.fromarray((255 * row).byte().numpy()).save(given.out)
