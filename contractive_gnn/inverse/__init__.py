"""Inverse problems: Plug-and-Play iterations that converge, and why."""

from contractive_gnn.inverse.averaged import (
    AveragedModule,
    averagedness_of,
    composed,
    gradient_step,
    relaxed,
    residual_bound,
)
from contractive_gnn.inverse.convergence import ConvergenceCertificate, ConvergenceError, Factor
from contractive_gnn.inverse.convolution import Convolution, gaussian_kernel, motion_kernel
from contractive_gnn.inverse.deepinv_denoiser import as_deepinv
from contractive_gnn.inverse.deepinv_physics import from_deepinv
from contractive_gnn.inverse.denoisers import Clipped, OneLevel, Relaxed, Resolvent
from contractive_gnn.inverse.fourier import Fourier
from contractive_gnn.inverse.inpainting import Inpainting
from contractive_gnn.inverse.iteration import Run
from contractive_gnn.inverse.physics import LinearPhysics, Solution, adjoint_defect, conjugate_gradient, perron_bound
from contractive_gnn.inverse.plug_and_play import ADMM, DouglasRachford, ProximalGradient, RepeatedDenoising
from contractive_gnn.inverse.radon import Radon

__all__ = [
    "ADMM",
    "AveragedModule",
    "Clipped",
    "ConvergenceCertificate",
    "ConvergenceError",
    "Convolution",
    "DouglasRachford",
    "Factor",
    "Fourier",
    "Inpainting",
    "LinearPhysics",
    "OneLevel",
    "ProximalGradient",
    "Radon",
    "Relaxed",
    "RepeatedDenoising",
    "Resolvent",
    "Run",
    "Solution",
    "adjoint_defect",
    "as_deepinv",
    "averagedness_of",
    "composed",
    "conjugate_gradient",
    "from_deepinv",
    "gaussian_kernel",
    "gradient_step",
    "motion_kernel",
    "perron_bound",
    "relaxed",
    "residual_bound",
]
