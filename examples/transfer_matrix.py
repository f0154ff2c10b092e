r"""
Does an attack transfer to other models?
========================================

A graph that was attacked against one model can be given to another. A transfer matrix shows all pairs: rows are the
models that the attacker aimed at, columns the models that were measured.
"""

# %%
# Three models, trained on one graph.
import matplotlib.pyplot as plt
import torch

import contractive_gnn as cg
from contractive_gnn.palette import STYLE

data = cg.contextual_sbm(200, seed=0)
names = ("gcn", "appnp", "linf-diffusion", "mlp")
models = {name: cg.build(name, data.num_features, int(data.y.max()) + 1) for name in names}
for model in models.values():
    cg.fit(model, data)

# %%
# Against each of them a white-box attacker flips a tenth of the edges. The ``mlp`` reads no edge, so it cannot be
# attacked in this way: it is measured only.
victims = names[:-1]
graphs = {
    name: cg.attack(models[name], data, "whitebox-pgd", fraction=0.1, epochs=40, fine_epochs=10).data
    for name in victims
}
rows = {"none": data, **graphs}
matrix = torch.tensor(
    [[cg.evaluate(model, graph, data.test_mask) for model in models.values()] for graph in rows.values()]
)

# %%
# Read it by columns. A model is hurt most by the attack that was made against it, so a number off the diagonal says
# nothing about how robust a model is.
plt.style.use(STYLE)
figure, axes = plt.subplots(figsize=(6, 3.8), layout="constrained")
image = axes.imshow(matrix, cmap="cividis", vmin=0, vmax=100, aspect="auto")
for i, row in enumerate(matrix.tolist()):
    for j, value in enumerate(row):
        axes.text(j, i, f"{value:.0f}", ha="center", va="center", color="white" if value < 60 else "black")
axes.set_xticks(range(len(names)), names)
axes.set_yticks(range(len(rows)), rows)
axes.set(title="Test accuracy, %", xlabel="model that is measured", ylabel="attacked model")
figure.colorbar(image)
plt.show()
