"""DeepRobust's GCN, trained as its examples train their surrogates."""

from __future__ import annotations

from typing import Any

from torch_geometric.data import Data

from contractive_gnn.deeprobust.arrays import to_arrays
from contractive_gnn.deeprobust.importing import import_deeprobust
from contractive_gnn.deeprobust.mending import mended


def train_gcn(
    data: Data,
    *,
    hidden: int = 16,
    dropout: float = 0.0,
    with_relu: bool = False,
    with_bias: bool = False,
    weight_decay: float = 5e-4,
    patience: int | None = 30,
) -> Any:
    """DeepRobust's GCN, trained as its examples train their surrogates.

    The defaults are those of Nettack and Metattack: two linear layers without bias or dropout, stopped when the
    validation loss has not improved for 30 of at most 200 epochs (Adam, lr 0.01; DeepRobust drops the weight decay
    without ReLU). Random numbers come from torch's global generator, which the caller seeds.

    Args:
        data: the graph; its train_mask and val_mask are used.
        hidden: width of the hidden layer.
        dropout: probability.
        with_relu: whether the hidden layer has a ReLU.
        with_bias: whether the layers have biases.
        weight_decay: of Adam.
        patience: epochs; None trains 200 epochs without looking at the validation nodes.

    Returns:
        ``deeprobust.graph.defense.GCN`` in eval mode, on the CPU.
    """
    defense = import_deeprobust("graph.defense")
    arrays = to_arrays(data)
    with mended():
        model = defense.GCN(
            nfeat=arrays.features.shape[1],
            nhid=hidden,
            nclass=arrays.n_classes,
            dropout=dropout,
            weight_decay=weight_decay,
            with_relu=with_relu,
            with_bias=with_bias,
            device="cpu",
        )
        early_stopping = {} if patience is None else {"idx_val": arrays.val, "patience": patience}
        model.fit(arrays.features, arrays.adjacency, arrays.labels, arrays.train, **early_stopping)
    return model.eval()
