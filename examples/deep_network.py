r"""
Deep networks without oversmoothing
===================================

In a deep GCN neighbours soon have the same features: it oversmooths. A wave on the graph conserves its energy and
cannot settle, however many layers it has.
"""

# %%
# Forty layers of either kind on one graph. The wave moves positions and momenta, two halves of the channels, by a
# symplectic scheme.
import matplotlib.pyplot as plt
import torch
from torch_geometric.nn import GCN

import contractive_gnn as cg
from contractive_gnn.operators import dirichlet_energy
from contractive_gnn.palette import COLOURS, STYLE

layers = 40
data = cg.contextual_sbm(200, seed=0)
graph, classes = cg.Graph.of(data.x, data.edge_index), int(data.y.max()) + 1
models = {
    "GCN": GCN(data.num_features, hidden_channels=32, num_layers=layers, out_channels=classes),
    "wave": cg.build("wave", data.num_features, classes, hidden_channels=32, num_layers=layers, share=0.1),
}

# %%
# Train both.
accuracy = {}
for name, model in models.items():
    cg.fit(model, data, epochs=60)
    accuracy[name] = cg.evaluate(model, data, data.test_mask)
    print(f"{name} with {layers} layers: test accuracy {accuracy[name]:.1f} %")

# %%
# The features after each layer; those of the GCN are collected by hooks. All layers of the wave have the same weights,
# so it can go on, to three times the depth.
states = {"GCN": []}
for conv in models["GCN"].convs[:-1]:
    conv.register_forward_hook(lambda conv, given, out: states["GCN"].append(out.relu()))
with torch.no_grad():
    models["GCN"].eval()(data.x, data.edge_index)
    wave = models["wave"].eval()
    wave.conv.num_steps = 3 * layers
    states["wave"] = list(wave.conv.states(wave.encoder(data.x).relu(), data.edge_index))[1:]

# %%
# The Dirichlet energy is 0 where all neighbours agree. Here it is divided by the size of the features.
roughness = {
    name: [float(dirichlet_energy(x, graph) / x.square().sum()) for x in found] for name, found in states.items()
}
plt.style.use(STYLE)
figure, axes = plt.subplots(figsize=(6, 3.6), layout="constrained")
for (name, values), colour in zip(roughness.items(), COLOURS, strict=False):
    axes.semilogy(range(1, len(values) + 1), values, color=colour, label=name)
axes.set(title="How unlike neighbours are", xlabel="layer", ylabel="Dirichlet energy / size")
axes.legend(frameon=False)
plt.show()
