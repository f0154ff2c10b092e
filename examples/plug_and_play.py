r"""
Fill in a photograph, with a proof that the iteration converges
===============================================================

A denoiser can stand in for the prior in an inverse problem: this is Plug-and-Play. It may also make the iteration run
away. The denoiser here is *averaged*, whatever its weights are, so the iteration converges, and it says so.
"""

# %%
# A part of a photograph, of which half of the pixels are missing.
import matplotlib.pyplot as plt
import torch

from contractive_gnn.datasets.images import load_photographs
from contractive_gnn.inverse import Inpainting, ProximalGradient
from contractive_gnn.nn.images import GradientFlowDenoiser
from contractive_gnn.palette import COLOURS, STYLE

torch.manual_seed(0)
truth = load_photographs("samples")[1][None, :, 80:144, 180:244]
physics = Inpainting(torch.rand(64, 64) < 0.5)
y = physics(truth + 0.01 * torch.randn_like(truth))

# %%
# The trained denoiser comes with the library. ``sigma`` is the noise that it removes: more of it smooths more.
denoiser = GradientFlowDenoiser.pretrained("grey").eval()
run = ProximalGradient(physics, denoiser, sigma=15 / 255).run(y, steps=60)
print(run.certificate)
psnr = float(-10 * (run.image - truth).square().mean().log10())

# %%
# Each residual is at most what the certificate says, which falls as :math:`1/\sqrt{k}`.
plt.style.use(STYLE)
figure, panels = plt.subplots(1, 4, figsize=(12, 3.2), layout="constrained", width_ratios=(1, 1, 1, 1.3))
titles = ("half of the pixels", f"filled in, {psnr:.1f} dB", "the truth")
for axes, title, image in zip(panels, titles, (y, run.image, truth), strict=False):
    axes.imshow(image[0, 0], cmap="grey", vmin=0, vmax=1)
    axes.set_title(title)
    axes.axis("off")
panels[3].semilogy(run.bounds(), color=COLOURS[1], linestyle="--", label="proved bound")
panels[3].semilogy(run.residuals, color=COLOURS[0], label="residual")
panels[3].set(title="Convergence", xlabel="iteration", ylabel="change of the image, ℓ2")
panels[3].legend(frameon=False)
plt.show()
