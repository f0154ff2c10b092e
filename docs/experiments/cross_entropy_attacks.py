"""Does the plain cross-entropy mislead an attack on a network with a small constant?

    python docs/experiments/cross_entropy_attacks.py run --out docs/results/cross_entropy_attacks.jsonl
    python docs/experiments/cross_entropy_attacks.py table --out docs/results/cross_entropy_attacks.jsonl

Scores of a network with a constant of 1 differ by less than the distance between two images, so their softmax is
nearly uniform, and the gradient of the cross-entropy pulls the right score below the *mean* of the others instead of
below the nearest one. The attacks of this library scale the scores of each image to ``max z − min z = 20`` first. Here
each network meets the attacks with and without it, with a short reach as well (ten steps of ε/40, all of them ε/4), and
losses that do not depend on the scale. The classifiers are small ones of scikit-learn's digits.
"""

from __future__ import annotations

import argparse
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

import torch
from appending import append, read
from pages import markdown, write_between

from contractive_gnn.attacks.base.provenance import versions
from contractive_gnn.attacks.images import APGD, PGD, ImageAttack, evaluate_images
from contractive_gnn.datasets.images import load_images
from contractive_gnn.nn.images import ImageClassifier, frozen
from contractive_gnn.provenance import current_commit
from contractive_gnn.training.images import ImageFitOptions, TemperatureCrossEntropy, fit_images

EPSILONS = (0.3, 0.6, 1.0)
KINDS = ("nonexpansive", "alternating", "unconstrained")
Key = tuple[str, int, float, str]
PAGE, NAME = Path("docs/images.md"), "cross_entropy_attacks"


def attacks(epsilon: float, seed: int) -> dict[str, ImageAttack]:
    """What each network meets, by the name of its column."""
    common = {"norm": "l2", "epsilon": epsilon, "seed": seed}
    return {
        "PGD, ε/4": PGD(**common, num_steps=10, restarts=1, reach=0.25, spread=None),  # type: ignore[arg-type]
        "PGD": PGD(**common, spread=None),  # type: ignore[arg-type]
        "PGD, scaled": PGD(**common),  # type: ignore[arg-type]
        "APGD-CE": APGD(**common, spread=None),  # type: ignore[arg-type]
        "APGD-CE, scaled": APGD(**common),  # type: ignore[arg-type]
        "APGD-DLR": APGD(**common, loss="dlr"),  # type: ignore[arg-type]
        "APGD-T": APGD(**common, loss="targeted"),  # type: ignore[arg-type]
    }


def run(kind: str, seed: int, *, images: int, epochs: int, done: Collection[Key]) -> Iterator[dict[str, object]]:
    """Train a network, and a line for each attack that is not done."""
    train, test = load_images("digits"), load_images("digits", "test")
    torch.manual_seed(seed)
    model = ImageClassifier(1, 10, size=8, channels=(32,), dense=(64,), kind=kind)  # type: ignore[arg-type]
    loss = TemperatureCrossEntropy(0.1, offset=0.2) if kind != "unconstrained" else TemperatureCrossEntropy()
    options = ImageFitOptions(epochs=epochs, batch_size=64, max_lr=1e-2, loss=loss, augment=None, ema=None, threads=1)
    fit_images(model, train, options, seed=seed, progress=False)
    net = frozen(model)
    data = test.subset(slice(images))
    with torch.no_grad():
        scores = net(data.floats())
    commit, changes = current_commit()
    for epsilon in EPSILONS:
        for name, attack in attacks(epsilon, seed).items():
            if (kind, seed, epsilon, name) in done:
                continue
            found = evaluate_images(net, data, [attack], progress=False)
            yield {
                "kind": kind,
                "seed": seed,
                "attack": name,
                "settings": attack.settings(),
                "epsilon": epsilon,
                "images": len(found),
                "clean": sum(line.correct for line in found),
                "survived": sum(line.survived for line in found),
                "certified": sum(line.certified for line in found),
                "spread": float((scores.amax(dim=1) - scores.amin(dim=1)).median()),
                "epochs": epochs,
                "commit": commit,
                "uncommitted_changes": changes,
                "versions": dict(versions(("torchattacks",))),
            }


def table(out: Path) -> str:
    """Percent of the images that each attack leaves, over seeds, in Markdown."""
    rows = read(out)
    names = list(attacks(1.0, 0))
    shown = []
    for kind in KINDS:
        for epsilon in sorted({row["epsilon"] for row in rows}):
            own = [row for row in rows if (row["kind"], row["epsilon"]) == (kind, epsilon)]
            if not own:
                continue

            def percent(what: str, name: str, own: Sequence[dict[str, object]] = own) -> str:
                chosen = [row for row in own if row["attack"] == name]
                shares = [100.0 * int(row[what]) / int(row["images"]) for row in chosen]  # type: ignore[call-overload]
                return f"{sum(shares) / len(shares):.1f}"

            bound = "—" if kind == "unconstrained" else percent("certified", names[0])
            shown.append([kind, f"{epsilon:g}", *(percent("survived", name) for name in names), bound])
    return markdown(["network", "ε", *names, "certified"], shown)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run what is not there yet, or write the table into the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("run", "table"))
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--epochs", type=int, default=10)
    given = parser.parse_args(arguments)
    if given.what == "table":
        write_between(PAGE, NAME, table(given.out))
        return
    done = {(row["kind"], row["seed"], row["epsilon"], row["attack"]) for row in read(given.out)}
    for seed in range(given.seeds):
        for kind in KINDS:
            wanted = {(kind, seed, epsilon, name) for epsilon in EPSILONS for name in attacks(epsilon, seed)}
            if wanted <= done:
                continue
            for line in run(kind, seed, images=given.images, epochs=given.epochs, done=done):
                append(given.out, [line])
                print(kind, seed, line["epsilon"], line["attack"], line["survived"], flush=True)


if __name__ == "__main__":
    main()
