"""The graph that a model is trained on: its training and validation nodes have labels."""

from __future__ import annotations

import warnings

from torch_geometric.data import Data

from contractive_gnn.inputs import InputError, check_known, checked


def trainable(data: Data) -> Data:
    """A checked graph whose training and validation nodes have labels; warns where they are judged by, too.

    Raises:
        InputError: a graph that :mod:`contractive_gnn.inputs` refuses, or a mask that is missing, empty or selects
            nodes without a label.
    """
    data = checked(data)
    for mask in ("train_mask", "val_mask"):
        if data.get(mask) is None:
            raise InputError(f"data.{mask} must select at least one node; load the graph with a split")
        check_known(data.y, data[mask], name=f"data.{mask}")
    for mask in ("val_mask", "test_mask"):
        if data.get(mask) is not None and (seen := int((data[mask] & data.train_mask).sum())):
            warnings.warn(
                f"{seen} nodes of data.{mask} are in data.train_mask too: an accuracy on them is one of memory",
                stacklevel=3,
            )
    return data
