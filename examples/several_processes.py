r"""
One training in several processes
=================================

A graph that is too large for one process is cut into parts. Each process holds the nodes of one part, and asks the
others for the states of the neighbours that it lacks, at every step of the flow. The losses are those of one process.

Start it with ``torchrun --nproc_per_node 2 examples/several_processes.py``. Without torchrun, one process holds the
whole graph.
"""

# %%
# Each process finds the others. On GPUs take ``"nccl"``, and move model and graph to the process's own GPU.
import os

import matplotlib.pyplot as plt
import torch.distributed as dist

import contractive_gnn as cg
from contractive_gnn.palette import STYLE
from contractive_gnn.partition import partition
from contractive_gnn.training import fit_distributed

alone = {} if "RANK" in os.environ else {"store": dist.HashStore(), "rank": 0, "world_size": 1}
dist.init_process_group("gloo", **alone)
rank, processes = dist.get_rank(), dist.get_world_size()

# %%
# Every process makes the same graph and the same parts, and keeps the rows of its own. Few edges lead from one part to
# another where the graph has communities and pymetis is there to find them; here the parts are cut from an order of the
# nodes.
data = cg.contextual_sbm(1000, seed=0)
part = partition(data.edge_index, data.num_nodes, processes)
cut = (part[data.edge_index[0]] != part[data.edge_index[1]]).float().mean()
print(f"process {rank}: {int((part == rank).sum())} nodes; {100 * cut:.0f} % of the edges are cut")

# %%
# Fit together, and then alone. Without dropout the two trainings are the same up to rounding.
model = cg.build("linf-diffusion", data.num_features, 4, dropout=0.0)
together: list[float] = []
fit_distributed(
    model, data, epochs=60, seed=0, part=part, on_epoch=lambda epoch, accuracy, loss: together.append(accuracy)
)
alone_model = cg.build("linf-diffusion", data.num_features, 4, dropout=0.0)
by_itself: list[float] = []
cg.fit(alone_model, data, epochs=60, seed=0, on_epoch=lambda epoch, accuracy: by_itself.append(accuracy))
distance = (cg.predict(model, data) - cg.predict(alone_model, data)).abs().max()
print(f"process {rank}: scores differ by at most {distance:.0e}")
dist.destroy_process_group()

# %%
# The dashed curve lies on the other one. Every process has the same model at the end.
plt.style.use(STYLE)
figure, axes = plt.subplots(figsize=(6, 3.6), layout="constrained")
axes.plot(by_itself, label="one process")
axes.plot(together, "--", label=f"fit_distributed, processes: {processes}")
axes.set(title="One training in several processes", xlabel="epoch", ylabel="validation accuracy, %")
axes.legend()
plt.show()
