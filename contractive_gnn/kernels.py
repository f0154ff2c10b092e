"""The old name of :mod:`contractive_gnn.compiled.kernels`, for one release."""

from contractive_gnn.deprecated import aliases

_NAMES = ("available", "code", "disabled", "euler", "fixed", "flow", "hooked", "plain_edge_sum")

__getattr__ = aliases(__name__, {name: f"contractive_gnn.compiled.kernels:{name}" for name in _NAMES})
