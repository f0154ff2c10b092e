r"""
Learn a pendulum, and keep its structure
========================================

Two networks see the same noisy swings of five seconds and predict fifty. One is a Hamiltonian with a symplectic step:
whatever its weights are, each step keeps areas in the phase plane. The other is a residual network of as many weights.
"""

# %%
# Angle and momentum every 0.2 seconds, with noise of 0.02.
import matplotlib.pyplot as plt
import torch
from torch import nn

from contractive_gnn.datasets.systems import pendulum, simulate
from contractive_gnn.dynamics import PerceptronField, RidgeEnergy, SeparableHamiltonian
from contractive_gnn.nn import Flow
from contractive_gnn.operators import Dense
from contractive_gnn.palette import COLOURS, STYLE
from contractive_gnn.training.systems import TrajectoryFitOptions, fit_trajectories, polish_trajectories, rollout

torch.manual_seed(0)
system, step, seen, predicted = pendulum(), 0.2, 25, 250
data = simulate(system, count=10, step=step, num_steps=seen, noise=0.02, seed=0)
test = simulate(system, count=20, step=step, num_steps=predicted, seed=1).states
energy = system.invariants["energy"]
truth = test[energy(test[:, 0]).argmax()]  # the widest swing is the hardest


# %%
# Two maps :math:`x(t) \mapsto x(t + 0.2)`. The first steps along :math:`H = T(p) + V(q)`, both learned.
def residual(width=19):
    """A block :math:`x + A^\\top \\tanh(Bx + b)`."""
    inner, outer = (Dense(nn.Parameter(torch.randn(width, 2) / size**0.5)) for size in (2, width))
    field = PerceptronField(inner, "tanh", outer=outer, bias=nn.Parameter(torch.rand(width)))
    return Flow(field, num_steps=1, step=1.0, constrained=False)


hamiltonian = SeparableHamiltonian(RidgeEnergy(1, 32), RidgeEnergy(1, 32))
models = {
    "Hamiltonian": Flow(hamiltonian, num_steps=1, step=step, constrained=False, scheme="blanes-moan").double(),
    "residual": nn.Sequential(residual(), residual()).double(),
}

# %%
# Train both: a little of Adam, then Levenberg-Marquardt steps.
options = TrajectoryFitOptions(epochs=1, steps=300, max_lr=2e-2, horizons=(1,))
orbits = {}
for name, model in models.items():
    fit_trajectories(model, data, options, progress=False)
    polish_trajectories(model, data, iterations=10, horizon=5)
    with torch.no_grad():
        orbits[name] = rollout(model, truth[None, 0], predicted)[0]

# %%
# Predictions of a swing that neither has seen, and the true energy along them.
plt.style.use(STYLE)
figure, (plane, along) = plt.subplots(1, 2, figsize=(9, 3.8), layout="constrained")
time = step * torch.arange(predicted + 1)
plane.plot(*truth.T, color="#999999", label="true")
along.plot(time, energy(truth), color="#999999", label="true")
for (name, orbit), colour in zip(orbits.items(), COLOURS, strict=False):
    plane.plot(*orbit.T, ".", markersize=3, color=colour, label=name)
    along.plot(time, energy(orbit), color=colour, label=name)
along.axvspan(0, step * seen, color="#dddddd", label="length of a swing in training")
plane.set(title="Phase plane", xlabel="angle q", ylabel="momentum p", aspect="equal")
along.set(title="Energy", xlabel="time, s", ylabel="energy")
along.legend(frameon=False, loc=(0.42, 0.55))
plt.show()
