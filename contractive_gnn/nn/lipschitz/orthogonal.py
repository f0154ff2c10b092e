"""Orthogonal matrices as layers."""

from __future__ import annotations

from typing import Literal

import torch
from torch import nn
from torch.nn.utils import parametrize

from contractive_gnn.checks import check_flag, check_whole
from contractive_gnn.nn.lipschitz.bjorck import Bjorck
from contractive_gnn.nn.lipschitz.linear import ConstrainedLinear
from contractive_gnn.nn.lipschitz.weights import exact
from contractive_gnn.nn.parametrizations import orthogonal
from contractive_gnn.operators.singular import largest_singular_value

Method = Literal["bjorck", "cayley"]


class OrthogonalLinear(ConstrainedLinear):
    r"""A linear layer whose matrix has orthonormal columns (``out ≥ in``: an isometry) or rows (``out < in``).

    ``"bjorck"`` takes steps towards the orthogonal factor of a free matrix (:func:`.bjorck`): its norm is 1 at most
    whatever is learned, and it is orthogonal where they have converged. ``"cayley"`` is Cayley's map of a
    skew-symmetric matrix (:func:`~contractive_gnn.nn.parametrizations.orthogonal`): orthogonal always, to rounding; a
    linear system is solved at each call. :meth:`defect` measures what is left of either. The bias does not count.

    Args:
        in_features: of the input.
        out_features: of the output.
        bias: whether one is learned.
        method: see above.
        num_steps: of ``"bjorck"``.

    Shapes:
        ``[…, in]`` to ``[…, out]``.

    Raises:
        TypeError: for an argument of another type; (called) in half precision.
        ValueError: for an unknown method or a number out of its range.

    Example:
        >>> layer = OrthogonalLinear(4, 6)
        >>> abs(layer.lipschitz() - 1.0) < 1e-5, layer.defect() < 1e-5
        (True, True)
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        *,
        method: Method = "bjorck",
        num_steps: int = 20,
    ) -> None:
        check_whole("in_features", in_features, least=1)
        check_whole("out_features", out_features, least=1)
        check_flag("bias", bias)
        if method not in ("bjorck", "cayley"):
            raise ValueError(f"method must be 'bjorck' or 'cayley', got {method!r}")
        super().__init__(in_features, out_features, bias)
        self.method = method
        nn.init.orthogonal_(self.weight)
        if method == "cayley":
            orthogonal(self)
        else:
            parametrize.register_parametrization(self, "weight", Bjorck(num_steps))

    def defect(self) -> float:
        """An upper bound of ``‖WᵀW − I‖₂`` (``‖WWᵀ − I‖₂`` for out < in): 0 for an orthogonal matrix."""
        weight = exact(self)
        tall = weight if weight.size(0) >= weight.size(1) else weight.t()
        gram = tall.t() @ tall
        rest = gram - torch.eye(tall.size(1), dtype=tall.dtype)
        # the product is rounded by at most m eps ‖W‖²_F
        slack = tall.size(0) * torch.finfo(tall.dtype).eps * float(gram.diagonal().sum())
        return float(largest_singular_value(rest)) + slack

    def extra_repr(self) -> str:
        """Show the method."""
        return f"{super().extra_repr()}, method={self.method!r}"
