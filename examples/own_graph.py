r"""
Your own graph
==============

A graph in a file becomes a PyG ``Data`` that every model, attack and certificate of this library takes. Here the file
is GraphML: Zachary's karate club, whose 34 members split into two groups.
"""

# %%
# A file, as you may have one. ``label`` is the class of a node. Other names would be features.
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import networkx as nx

import contractive_gnn as cg
from contractive_gnn.datasets import read
from contractive_gnn.palette import COLOURS, STYLE

club = nx.karate_club_graph()
graph = nx.Graph(club.edges)
nx.set_node_attributes(graph, nx.get_node_attributes(club, "club"), "label")

# %%
# Read it. A file without masks is split at random by class; a file without features gets one for each node. What was
# done to the graph is said in a warning, and in ``data.notes``.
with tempfile.TemporaryDirectory() as folder:
    nx.write_graphml(graph, Path(folder) / "club.graphml")
    data = read(Path(folder) / "club.graphml", split="random", split_seed=1)

# %%
# Train a model, and flip four edges.
model = cg.build("gcn", data.num_features, 2)
cg.fit(model, data)
attacked = cg.attack(model, data, "whitebox-pgd", flips=4, epochs=30, fine_epochs=5)
graphs = {"clean": data, "four edges flipped": attacked.data}
wrong = {name: cg.predict(model, each).argmax(dim=1) != data.y for name, each in graphs.items()}
for name, each in graphs.items():
    print(f"{name}: test accuracy {cg.evaluate(model, each, data.test_mask):.1f} %")

# %%
# The predictions on both graphs. A wrong node has a thick rim; the flipped edges are green.
plt.style.use(STYLE)
place = nx.spring_layout(nx.Graph(data.edge_index.t().tolist()), seed=2)
flipped = set(map(tuple, attacked.edge_flips.t().tolist()))
figure, panels = plt.subplots(1, 2, figsize=(9, 4), layout="constrained")
for axes, (name, each) in zip(panels, graphs.items(), strict=True):
    edges = [(u, v) for u, v in each.edge_index.t().tolist() if u < v]
    nx.draw_networkx(
        nx.Graph(edges),
        place,
        ax=axes,
        edgelist=edges,
        edge_color=[COLOURS[2] if edge in flipped else "#bbbbbb" for edge in edges],
        width=[3 if edge in flipped else 1 for edge in edges],
        nodelist=range(data.num_nodes),
        node_color=[COLOURS[label] for label in cg.predict(model, each).argmax(dim=1).tolist()],
        node_size=90,
        edgecolors="black",
        linewidths=[3.0 if error else 0.5 for error in wrong[name].tolist()],
        with_labels=False,
    )
    axes.set_title(f"{name}: {int(wrong[name].sum())} of {data.num_nodes} wrong")
    axes.axis("off")
plt.show()
