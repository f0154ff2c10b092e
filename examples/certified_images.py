"""A classifier of images that certifies what others only measure.

python examples/certified_images.py --quick       # scikit-learn's digits, in seconds
python examples/certified_images.py               # CIFAR-10, about an hour of two cores
"""

# %% Images: digits of 8 × 8 pixels, or CIFAR-10; some are held out to watch the training by.
import argparse

import torch

from contractive_gnn.attacks.images import APGD, curves, evaluate_images
from contractive_gnn.certificates.curve import picture
from contractive_gnn.datasets.images import hold_out, load_images
from contractive_gnn.nn.images import ImageClassifier, frozen
from contractive_gnn.training.images import Augmentation, ImageFitOptions, TemperatureCrossEntropy, fit_images

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--quick", action="store_true")
parser.add_argument("--out", default="certified_images.png", help="the picture, .png, .svg or .pdf")
given = parser.parse_args()
if not given.out.endswith((".png", ".svg", ".pdf")):
    parser.error("--out must end in .png, .svg or .pdf")
name = "digits" if given.quick else "cifar10"
train, val = hold_out(load_images(name), 200 if given.quick else 5000)
test = load_images(name, "test").subset(slice(200))
channels, height, width = train.shape

# %% Two networks with the same layers. In one each layer is a step of a contractive flow, so a change of the image
# never grows on its way to the scores; in the other nothing is bound.
lines = []
for kind in ("nonexpansive", "unconstrained"):
    torch.manual_seed(0)
    stages = (32,) if given.quick else (32, 64, 128)
    model = ImageClassifier(channels, len(train.classes), size=(height, width), channels=stages, kind=kind)

    # %% A small temperature lets scores that cannot grow be sure; the offset asks for a distance to the other classes.
    loss = TemperatureCrossEntropy(0.1, offset=0.3) if kind == "nonexpansive" else TemperatureCrossEntropy()
    moved = None if given.quick else Augmentation(padding=4, flip=True)
    options = ImageFitOptions(epochs=12 if given.quick else 30, batch_size=64, max_lr=1e-2, loss=loss, augment=moved)
    last = fit_images(model, train, options, val=val, progress=not given.quick).epochs[-1]
    print(f"{kind}: validation accuracy {last.val_accuracy:.1f} %, Lipschitz constant {model.lipschitz():.3g}")

    # %% Attack the test images. Where a constant is known, each image has a radius within which no attack can succeed;
    # the evaluation checks that none did.
    model = frozen(model)  # the same numbers, faster
    attacks = [APGD(norm="l2", epsilon=epsilon) for epsilon in (0.1, 0.25, 0.5, 1.0)]
    lines += evaluate_images(model, (test.floats(), test.labels), attacks, network=kind, progress=not given.quick)

# %% Accuracy against the size of the change: what attacks left is at most, what is certified at least, the truth.
found = curves(lines)
for curve in found:
    print(
        f"{curve.label}, {curve.kind}: "
        + ", ".join(f"{curve.at(epsilon)} % at {epsilon}" for epsilon in (0.0, 0.25, 0.5))
    )
picture(found, title=f"{train.name.partition('/')[0]}: certified and attacked", out=given.out)
