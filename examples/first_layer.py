"""A model in fifteen lines: a contractive layer between two linear ones, trained, tried and attacked.

Run it from the root of the repository: ``python examples/first_layer.py``.
"""

# %% A graph: 300 nodes of four classes, whose features say little and whose edges say more.
import torch
from torch_geometric.nn import Linear

import contractive_gnn as cg

data = cg.contextual_sbm(300, seed=0)


# %% The model: eight steps of a flow that pulls each node towards its neighbours, and never far from where it began.
class Net(torch.nn.Module):
    """Encoder, eight contractive steps, decoder."""

    def __init__(self, in_channels: int, out_channels: int, hidden_channels: int = 16) -> None:
        super().__init__()
        self.encoder = Linear(in_channels, hidden_channels)
        self.flow = cg.FlowConv(cg.Diffusion(activation="huber", threshold=0.5, mu=0.1), num_steps=8)
        self.decoder = Linear(hidden_channels, out_channels)

    def forward(
        self, x: torch.Tensor, edge_index: torch.Tensor, edge_weight: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Scores ``[n, classes]``."""
        return self.decoder(self.flow(self.encoder(x).relu(), edge_index, edge_weight))


# %% Train it, and ask how often it is right on the test nodes.
model = Net(data.num_features, int(data.y.max()) + 1)
cg.fit(model, data, seed=0)
clean = cg.evaluate(model, data, data.test_mask)

# %% A change of the flow's input never grows, in its largest entry: that is the field's claim. Here is one change.
with torch.no_grad():
    h = model.encoder(data.x).relu()
    change = 0.1 * torch.randn(h.shape, generator=torch.Generator().manual_seed(0))
    answer = model.flow(h + change, data.edge_index) - model.flow(h, data.edge_index)
    ratio = float(answer.abs().max() / change.abs().max())

# %% Attack it: a white-box attacker flips a twentieth of the edges.
attacked = cg.attack(model, data, "whitebox-pgd", fraction=0.05)
after = cg.evaluate(model, attacked.data, data.test_mask)
print(f"accuracy {clean:.1f} %, with {attacked.n_flips} edges flipped {after:.1f} %")
print(f"a change of the flow's input comes out {ratio:.2f} times as large (never more than once)")
