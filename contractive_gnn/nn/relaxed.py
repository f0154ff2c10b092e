"""The old name of :mod:`contractive_gnn.nn.surrogate`, for one release."""

from contractive_gnn.deprecated import aliases

__getattr__ = aliases(__name__, {"relaxed": "contractive_gnn.nn.surrogate:gradient_surrogate"})
