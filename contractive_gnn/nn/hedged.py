"""The old name of :mod:`contractive_gnn.nn.mixture`, for one release."""

from contractive_gnn.deprecated import aliases

__getattr__ = aliases(__name__, {"Hedged": "contractive_gnn.nn.mixture:MLPMixture"})
