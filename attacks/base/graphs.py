"""The graphs that an attack takes."""

from __future__ import annotations

import torch
from torch_geometric.data import Data

from contractive_gnn.inputs import MASKS, InputError, check_known, checked


def attackable(data: Data, what: str) -> Data:
    """The graph with its fields in one form, unless it is none that an attack can take."""
    checked_data = checked(data, what=what, masks=MASKS, weighted=False, dense=True)
    batch = checked_data.get("batch")
    if batch is not None and bool((batch != batch[:1]).any()):
        raise InputError(f"{what} is a batch of graphs, which an attack would join; attack one: data.get_example(0)")
    if checked_data.x.dtype not in (torch.float32, torch.float64):
        raise InputError(
            f"{what}: x is {checked_data.x.dtype}; attacks need float32 or float64, convert it with x.float()"
        )
    for key in MASKS:
        if bool(checked_data[key].any()):
            check_known(checked_data.y, checked_data[key], name=f"{what}.{key}")
    return checked_data
