"""The old name of :mod:`contractive_gnn.compiled.kernels`, for one release."""

from contractive_gnn.deprecated import aliases

__getattr__ = aliases(
    __name__,
    {name: f"contractive_gnn.compiled.kernels:{name}" for name in ("available", "code", "disabled", "euler", "flow")},
)
