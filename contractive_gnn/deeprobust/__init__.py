"""The one door to DeepRobust 0.2.11, which was written for torch 1.x and NumPy 1.x.

Everything that its age requires happens here, and only while its code is being imported or run: nothing of DeepRobust,
NumPy or ``sys.modules`` stays changed afterwards. Its attacks are in :mod:`contractive_gnn.attacks.deeprobust`, its
models in :mod:`contractive_gnn.nn.deeprobust`.
"""

from contractive_gnn.deeprobust.arrays import Arrays, to_arrays
from contractive_gnn.deeprobust.errors import DeepRobustMissing
from contractive_gnn.deeprobust.importing import import_deeprobust
from contractive_gnn.deeprobust.mending import mended, replaced
from contractive_gnn.deeprobust.surrogate import train_gcn

__all__ = ["Arrays", "DeepRobustMissing", "import_deeprobust", "mended", "replaced", "to_arrays", "train_gcn"]
