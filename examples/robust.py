r"""
Robust in three lines
=====================

``cg.robust`` is a model that does not trust the edges: build it, fit it, use it. The other lines of this page train it,
and a GCN beside it, on graphs that an attacker has changed before the training.
"""

# %%
# The three lines. None of them needs a setting that depends on the graph.
import matplotlib.pyplot as plt

import contractive_gnn as cg
from contractive_gnn.palette import COLOURS, MARKERS, STYLE

data = cg.contextual_sbm(200, feature_signal=2.5, seed=0)
classes = int(data.y.max()) + 1

model = cg.robust(data.num_features, classes)
cg.fit(model, data, self_training=0.8)
print(f"test accuracy {cg.evaluate(model, data, data.test_mask):.1f} %")

# %%
# Metattack flips the edges that spoil the training of a GCN the most. Give the first graph to it, at two budgets.
shares = (0.0, 0.1, 0.2)
graphs = [data, *(cg.attack(None, data, "metattack", fraction=share).data for share in shares[1:])]

# %%
# Train both models on each graph, and evaluate them there.
models = {"robust": {"self_training": 0.8}, "gcn": {}}
accuracy = {}
for name, training in models.items():
    accuracy[name] = []
    for graph in graphs:
        model = cg.build(name, data.num_features, classes)
        cg.fit(model, graph, **training)
        accuracy[name].append(cg.evaluate(model, graph, data.test_mask))

# %%
# This random graph is an easy one. What is left on Cora and Citeseer, under attacks that know the model too, stands in
# the results: there ``robust`` loses more.
plt.style.use(STYLE)
figure, axes = plt.subplots(figsize=(6, 3.6), layout="constrained")
for (name, values), colour, marker in zip(accuracy.items(), COLOURS, MARKERS, strict=False):
    axes.plot([100 * share for share in shares], values, color=colour, marker=marker, label=name)
axes.set(title="Trained on attacked graphs", xlabel="edges flipped, %", ylabel="test accuracy, %", ylim=(50, 102))
axes.legend(frameon=False)
plt.show()
