r"""
Write a dynamics
================

A vector field on a graph is one class: the field, and what is claimed of it. The library makes a layer of it, and tries
to break its claims.
"""

# %%
# A diffusion whose force saturates,
#
# .. math:: \dot x_i = -\sum_j p_{ij} \tanh(x_i - x_j) - \mu x_i, \qquad p_{ij} = \frac{a_{ij}}{1 + \sum_k a_{ik}}.
#
# In one channel a row of the Jacobian has non-negative entries beside the diagonal, and adds up to :math:`-\mu`.
# So it contracts at the rate :math:`\mu` in ℓ∞, and an Euler step of length :math:`h \le 1/(1 + \mu)` is
# :math:`(1 - h\mu)`-Lipschitz.
import matplotlib.pyplot as plt
import torch

import contractive_gnn as cg
from contractive_gnn.norms import lipschitz_adversarial
from contractive_gnn.palette import COLOURS, STYLE
from contractive_gnn.testing import verify_one


class SaturatedDiffusion(cg.Dynamics):
    """Diffusion with a bounded force along each edge."""

    norm = "linf"
    mu = 0.5

    def field(self, x, graph, *, anchor=None, t=0.0):
        """The right-hand side, one row a node."""
        p = graph.edge_weight / (1 + graph.row_sum(graph.edge_weight))[graph.target]
        force = p[:, None] * torch.tanh(x[graph.target] - x[graph.source])
        return -torch.zeros_like(x).index_add(0, graph.target, force) - self.mu * x

    def rate(self, graph):
        """What is proved: how fast two states come together."""
        return self.mu

    def max_step(self, graph):
        """The longest Euler step for which that holds."""
        return 1 / (1 + self.mu)


# %%
# Try to break it: a search over graphs, states and steps.
print(verify_one("saturated", SaturatedDiffusion, tries=500).word)

# %%
# On one graph, the largest growth of a difference in one step, found by ascent, beside what is claimed. The claim holds
# up to the largest step, here a little beyond it, and then breaks.
data = cg.contextual_sbm(40, classes=2, average_degree=4, features=4, seed=0)
dynamics = SaturatedDiffusion()
graph = cg.Graph.of(data.x, data.edge_index)
steps = torch.linspace(0.1, 1.6, 11).tolist()
found = [
    lipschitz_adversarial(
        lambda x, h=h: x + h * dynamics.field(x, graph), torch.zeros_like(data.x), norm="linf", restarts=3, steps=20
    ).value
    for h in steps
]
plt.style.use(STYLE)
figure, axes = plt.subplots(figsize=(6, 3.6), layout="constrained")
axes.plot(steps, found, color=COLOURS[0], marker="o", label="largest that was found")
axes.plot(steps, [1 - h * dynamics.mu for h in steps], color=COLOURS[1], linestyle="--", label="claimed, 1 − hμ")
axes.axvline(dynamics.max_step(graph), color="#666666", linestyle=":", label="largest step")
axes.set(title="One Euler step", xlabel="step h", ylabel="growth of a difference in ℓ∞", ylim=(0, None))
axes.legend(facecolor="white", framealpha=1, edgecolor="none")
plt.show()
