r"""
A contractive layer in your model
=================================

``FlowConv`` is a PyTorch Geometric layer. It moves the node features along an ODE that pulls nearby states together,
so a change of its input never grows on the way to its output. Here it stands between two linear layers.
"""

# %%
# A graph: 300 nodes of four classes, with features that say little and edges that say more.
import matplotlib.pyplot as plt
import torch
from torch_geometric.nn import Linear

import contractive_gnn as cg
from contractive_gnn.palette import COLOURS, STYLE

data = cg.contextual_sbm(300, seed=0)


# %%
# The model: encoder, eight contractive steps, decoder. ``mu`` pulls each node back to where it began, and
# ``threshold`` limits what one neighbour can do.
class Net(torch.nn.Module):
    """Two linear layers around a flow."""

    def __init__(self, in_channels, out_channels, hidden_channels=16):
        super().__init__()
        self.encoder = Linear(in_channels, hidden_channels)
        self.flow = cg.FlowConv(cg.Diffusion(activation="huber", threshold=0.5, mu=0.1), num_steps=8)
        self.decoder = Linear(hidden_channels, out_channels)

    def forward(self, x, edge_index, edge_weight=None):
        """Scores, one row a node."""
        return self.decoder(self.flow(self.encoder(x).relu(), edge_index, edge_weight))


# %%
# Train it as any other model. ``fit`` keeps the best epoch on the validation nodes.
model = Net(data.num_features, int(data.y.max()) + 1)
cg.fit(model, data, seed=0)
accuracy = cg.evaluate(model, data, data.test_mask)
print(f"test accuracy {accuracy:.1f} %")

# %%
# Change the input of the flow at random, 200 times, and look at the largest entry of what comes out.
# No ratio is above 1, and none can be: that is a theorem about the flow, for every graph and all features.
with torch.no_grad():
    h = model.encoder(data.x).relu()
    out = model.flow(h, data.edge_index)
    changes = [0.1 * torch.randn_like(h) for _ in range(200)]
    ratios = [float((model.flow(h + d, data.edge_index) - out).abs().max() / d.abs().max()) for d in changes]

plt.style.use(STYLE)
figure, axes = plt.subplots(figsize=(6, 3.6), layout="constrained")
axes.hist(ratios, bins=20, color=COLOURS[0])
axes.axvline(1, color=COLOURS[1], label="proved bound")
axes.set(title="A change never grows", xlabel="largest change after the layer / before it", ylabel="random changes")
axes.legend(frameon=False)
plt.show()
