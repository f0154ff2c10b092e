r"""
How many flips can nobody use?
==============================

An attack that fails proves nothing. A certificate does: within its budget no attacker, however clever, changes a
certified prediction. The budget here is r flipped edges at *every* node at once.
"""

# %%
# The ℓ∞ diffusion on the class scores is a model with such bounds.
import matplotlib.pyplot as plt

import contractive_gnn as cg
from contractive_gnn.certificates import radii
from contractive_gnn.certificates.attack import run
from contractive_gnn.palette import COLOURS, STYLE

data = cg.contextual_sbm(300, seed=0)
model = cg.build("linf-diffusion", data.num_features, int(data.y.max()) + 1, threshold=0.2, mu=0.1)
cg.fit(model, data)
test, right = data.test_mask, cg.predict(model, data).argmax(dim=1) == data.y

# %%
# The radius of a node is the largest r that cannot change its prediction.
radius = radii(model, data.x, data.edge_index, most=5)
budgets = range(6)
certified = [100 * float(((radius >= r) & right)[test].double().mean()) for r in budgets]

# %%
# Attacks within the same budgets. What they leave is an upper bound of the truth, and the certificate a lower one.
left = []
for r in budgets:
    flips = cg.FlipBudget.uniform(r, data.num_nodes)
    certificate = cg.certify(model, data.x, data.edge_index, flips=flips)
    attack = run(model, data.x, data.edge_index, certificate, flips=flips, predictions=6_000)
    left.append(100 * float((right & ~attack.changed)[test].double().mean()))

# %%
# The truth lies in the shaded band.
plt.style.use(STYLE)
figure, axes = plt.subplots(figsize=(6, 3.6), layout="constrained")
axes.plot(budgets, left, color=COLOURS[1], marker="o", label="right after every attack we tried")
axes.plot(budgets, certified, color=COLOURS[0], linestyle="--", marker="s", label="right and certified")
axes.fill_between(budgets, certified, left, color=COLOURS[4], alpha=0.3, linewidth=0)
axes.set(title="Certified and attacked", xlabel="flips at every node, at most", ylabel="test nodes, %", ylim=(0, 102))
axes.legend(frameon=False)
plt.show()
