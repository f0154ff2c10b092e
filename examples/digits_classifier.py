r"""
A classifier of digits with a certificate
=========================================

Two networks for images of 8 × 8 pixels, with the same layers. In one each layer is a step of a contractive flow, so its
Lipschitz constant is known and every image has a radius within which no attack can succeed. In the other nothing is
bound.
"""

# %%
# Scikit-learn's digits; some are held out to watch the training.
import matplotlib.pyplot as plt
import torch

from contractive_gnn.attacks.images import APGD, curves, evaluate_images
from contractive_gnn.datasets.images import hold_out, load_images
from contractive_gnn.nn.images import ImageClassifier, frozen
from contractive_gnn.palette import COLOURS, STYLE
from contractive_gnn.training.images import ImageFitOptions, TemperatureCrossEntropy, fit_images

train, val = hold_out(load_images("digits"), 200)
test = load_images("digits", "test").subset(slice(100))
channels, *size = train.shape

# %%
# Train both. A small temperature lets scores that cannot grow be sure, and the offset asks for a margin.
losses = {"nonexpansive": TemperatureCrossEntropy(0.1, offset=0.3), "unconstrained": TemperatureCrossEntropy()}
models = {}
for kind, loss in losses.items():
    torch.manual_seed(0)
    model = ImageClassifier(channels, 10, size=tuple(size), channels=(16,), kind=kind)
    options = ImageFitOptions(epochs=10, batch_size=64, max_lr=1e-2, loss=loss)
    last = fit_images(model, train, options, val=val, progress=False).epochs[-1]
    print(f"{kind}: validation accuracy {last.val_accuracy:.1f} %, Lipschitz constant {model.lipschitz():.3g}")
    models[kind] = frozen(model)  # the same numbers, faster

# %%
# Attack both. The evaluation also checks that no attack succeeded within a certified radius.
attacks = [APGD(norm="l2", epsilon=epsilon) for epsilon in (0.2, 0.5, 1.0)]
lines = []
for kind, model in models.items():
    lines += evaluate_images(model, (test.floats(), test.labels), attacks, network=kind, progress=False)

# %%
# What an attack leaves is an upper bound of the robust accuracy, what is certified a lower one.
plt.style.use(STYLE)
figure, axes = plt.subplots(figsize=(6.5, 3.8), layout="constrained")
for curve in curves(lines):
    axes.plot(
        curve.epsilons,
        curve.mean(),
        color=COLOURS[list(models).index(curve.label)],
        linestyle="-" if curve.kind == "attacked" else "--",
        marker="o" if curve.kind == "attacked" else None,
        label=f"{curve.label}, {curve.kind}",
    )
axes.set(title="Digits, certified and attacked", xlabel="ε, in ℓ2", ylabel="accuracy, %", xlim=(0, 1), ylim=(0, 102))
axes.legend(frameon=False)
plt.show()
