"""Solutions of partial differential equations on a grid, by Fourier's method."""

from contractive_gnn.datasets.pdes.data import PixelData
from contractive_gnn.datasets.pdes.loading import PDES, load_pde, time_step
from contractive_gnn.datasets.pdes.spectral import laplacian_symbol, linear_solution, method_of_lines, wavenumbers
from contractive_gnn.datasets.pdes.starts import blobs, plane_waves

__all__ = [
    "PDES",
    "PixelData",
    "blobs",
    "laplacian_symbol",
    "linear_solution",
    "load_pde",
    "method_of_lines",
    "plane_waves",
    "time_step",
    "wavenumbers",
]
