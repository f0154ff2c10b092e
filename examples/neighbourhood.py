r"""
Attack a node and look at its neighbourhood
===========================================

Which edges fooled the model? ``cg.explain`` attacks one node and draws the part of the graph around it, before and
after, with what the model says of each node.
"""

# %%
# A graph and a trained model.
from io import BytesIO

import matplotlib.pyplot as plt
import torch
import vl_convert
from torch_geometric.utils import degree

import contractive_gnn as cg
from contractive_gnn.palette import STYLE

data = cg.contextual_sbm(200, average_degree=5, seed=0)
model = cg.build("gcn", data.num_features, int(data.y.max()) + 1)
cg.fit(model, data)

# %%
# A test node with few neighbours that the model has right.
right = (
    (cg.predict(model, data).argmax(dim=1) == data.y)
    & data.test_mask
    & (degree(data.edge_index[0], data.num_nodes) == 4)
)
node = int(torch.nonzero(right)[0])

# %%
# Nettack may flip four edges to fool it. In a notebook the explanation shows itself; printed it is a few lines, and
# ``found.save(folder)`` writes a page, an SVG and a PNG.
found = cg.explain(model, data, node, attack="nettack", flips=4, hops=2, most=40)
print(found)

# %%
# Colour and number are the predicted class, a pink ring marks a wrong one, orange edges were added. Edges to nodes of
# another class are what misleads a model that averages over its neighbours.
plt.style.use(STYLE)
figure, axes = plt.subplots(figsize=(9, 5), layout="constrained")
axes.imshow(plt.imread(BytesIO(vl_convert.svg_to_png(found.svg(), scale=2))))
axes.set_title(f"Node {node}: class {found.before.prediction}, then {found.after.prediction}")
axes.axis("off")
plt.show()
