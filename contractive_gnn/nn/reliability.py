"""The old name of :mod:`contractive_gnn.nn.calibration`, for one release."""

from contractive_gnn.deprecated import aliases

__getattr__ = aliases(__name__, {"Reliability": "contractive_gnn.nn.calibration:Calibration"})
