"""CIFAR-10 on two cores: five classifiers of equal parameters, epochs and data, one attack on all of them.

    python docs/experiments/cifar10.py search torchlip --scratch ~/cifar10      # and so on, two at a time
    python docs/experiments/cifar10.py train torchlip --scratch ~/cifar10
    python docs/experiments/cifar10.py attack torchlip --scratch ~/cifar10
    python docs/experiments/cifar10.py inside nonexpansive --scratch ~/cifar10  # and switching
    python docs/experiments/cifar10.py table              # writes into docs/images.md, and a picture
    python docs/experiments/cifar10.py gpu --scratch ~/cifar10                  # the authors' networks, at their size

``unconstrained``, ``nonexpansive`` and ``switching`` (alternating steps) are
:class:`contractive_gnn.nn.images.ImageClassifier`; ``torchlip`` and ``orthogonium`` are built of the layers of
deel-torchlip 1.0.5 and orthogonium 0.0.4 (``peer_networks.py``), which only their own stages need.

``search``: short trainings of the candidates of a network on 20,000 images, judged on 5,000 images that are held out
of the training split. ``train`` takes the candidate that was best there, by certified accuracy at 36/255 (of the
unconstrained one by accuracy), or the first one where there was no search, and the next one where a loss is not finite.
Nothing is chosen on test images.

``inside`` tries to change images that are certified: the first 256 of a network, each at the largest ε of the table
that lies below its radius.

``train``, ``attack``, ``inside`` and ``search`` go on where they were stopped. Checkpoints and a line for each attacked
image lie in ``--scratch``; a line for each training and for each attack, with all of its images, in ``--out``.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import time
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from appending import append, read
from cifar10_gpu import run as run_on_gpu
from cifar10_gpu import table as gpu_table
from pages import markdown, write_between
from peer_networks import PeerClassifier, of_equal_size, orthogonium, parameters, settled, torchlip
from torch import Tensor, nn

from contractive_gnn.attacks.images import APGD, AutoAttack, ImageAttack, ImageLine, evaluate_images
from contractive_gnn.bench.results import current_commit, current_versions
from contractive_gnn.certificates.curve import Curve, certified_accuracy, picture
from contractive_gnn.datasets.images import ImageData, hold_out, load_images
from contractive_gnn.nn.images import ImageClassifier, frozen, pairwise_radius
from contractive_gnn.nn.lipschitz import certified, lipschitz
from contractive_gnn.training.images import (
    Augmentation,
    ImageFitOptions,
    ImageLoss,
    TemperatureCrossEntropy,
    fit_images,
)

OURS: Mapping[str, str] = {"unconstrained": "unconstrained", "nonexpansive": "nonexpansive", "switching": "alternating"}
PEERS = {"torchlip": torchlip, "orthogonium": orthogonium}
NETWORKS = (*OURS, *PEERS)
MEAN, STD = (0.4914, 0.4822, 0.4465), 1.0  # a constant of 1: the loss has a temperature
CHANNELS, LAYERS = (32, 64, 128), 2
EPOCHS, BATCH, EMA = 20, 128, 0.999
SEARCH_EPOCHS, SEARCH_IMAGES = 4, 20_000
INSIDE = 256  # images that are attacked inside their radius
SMALL = 36 / 255
EPSILONS = (SMALL, 0.3, 0.5, 1.0)
CURVE = tuple(round(0.05 * step, 2) for step in range(21))
#: how many of the first test images each attack is run on
ATTACKS: tuple[tuple[ImageAttack, int], ...] = (
    (AutoAttack(norm="l2", epsilon=SMALL), 1000),
    (AutoAttack(norm="l2", epsilon=0.5), 256),
    *((APGD(norm="l2", epsilon=epsilon, loss=loss), 1000) for epsilon in (0.3, 1.0) for loss in ("ce", "targeted")),
    (AutoAttack(norm="linf", epsilon=2 / 255), 256),
)


@dataclasses.dataclass(frozen=True)
class Candidate:
    """One way to build and to train a network.

    Attributes:
        loss: of the scores.
        max_lr: of the one-cycle schedule of Adam.
        build: arguments beyond those that all have.
        weight_decay: of AdamW.
    """

    loss: ImageLoss
    max_lr: float
    build: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    weight_decay: float = 0.0

    @property
    def name(self) -> str:
        """All of it in words."""
        build = "".join(f", {key}={value}" for key, value in self.build.items())
        decay = f", decay {self.weight_decay:g}" if self.weight_decay else ""
        return f"{self.loss}, lr {self.max_lr:g}{decay}{build}"


def handicapped(**build: Any) -> tuple[Candidate, ...]:
    """Candidates with the loss that is in use for certificates, orthogonium's own among them."""
    tried = ((3e-3, 0.25, SMALL), *((3e-3, temperature, 2 * SMALL) for temperature in (0.25, 0.5, 1.0, 2.0)))
    return tuple(
        Candidate(TemperatureCrossEntropy(temperature=temperature, offset=offset), rate, build)
        for rate, temperature, offset in (*tried, (1e-2, 0.25, SMALL))
    )


#: the first is what is trained without a search; the same for every network with a certificate, and for each peer
#: one of its library's other blocks
CANDIDATES: dict[str, tuple[Candidate, ...]] = {
    "unconstrained": tuple(
        Candidate(TemperatureCrossEntropy(), rate, weight_decay=decay) for rate in (3e-3, 1e-3) for decay in (0.0, 5e-4)
    ),
    "nonexpansive": handicapped(),
    "switching": handicapped(),
    "torchlip": (*handicapped(pool="invertible"), *handicapped(pool="l2")[:1]),
    "orthogonium": (*handicapped(block="aoc"), *handicapped(block="sll")[:1]),
}


def build(network: str, candidate: Candidate) -> nn.Module:
    """The network, of as many parameters as the non-expansive one."""
    common: dict[str, Any] = {"size": 32, "channels": CHANNELS, "num_layers": LAYERS, "mean": MEAN, "std": STD}
    if network in OURS:
        return ImageClassifier(3, 10, kind=OURS[network], **common, **candidate.build)
    target = parameters(ImageClassifier(3, 10, kind="nonexpansive", **common))
    model, _ = of_equal_size(PEERS[network], target, in_channels=3, num_classes=10, **common, **candidate.build)
    return model


def at_rest(model: nn.Module) -> nn.Module:
    """A copy for evaluation whose weights are computed once."""
    return settled(model) if isinstance(model, PeerClassifier) else frozen(model)


def fit_options(candidate: Candidate, *, epochs: int) -> ImageFitOptions:
    """What is the same for all, and what the candidate says."""
    return ImageFitOptions(
        epochs=epochs,
        batch_size=BATCH,
        optimiser="adamw",
        max_lr=candidate.max_lr,
        weight_decay=candidate.weight_decay,
        warmup=0.15,
        loss=candidate.loss,
        augment=Augmentation(padding=2),
        ema=EMA,
        threads=1,
    )


def data(limit: int | None) -> tuple[ImageData, ImageData]:
    """45,000 images to train on, the first of them with a limit, and 5,000 to choose by."""
    train, val = hold_out(load_images("cifar10"))
    return (train if limit is None else first(train, limit)), val


def first(images: ImageData, count: int) -> ImageData:
    """The first of them, under a name that says so."""
    return images.subset(slice(count), name=f"{images.name}:{count}")


def about() -> dict[str, Any]:
    """Where a line comes from."""
    commit, changed = current_commit()
    return {"commit": commit, "uncommitted_changes": changed, "versions": current_versions()}


# search and train ----------------------------------------------------------------------------------------------------


@torch.no_grad()
def of_all(what: Callable[[Tensor], Tensor], images: ImageData) -> Tensor:
    """What a function gives for all images, 500 at a time."""
    return torch.cat([what(images.floats(slice(start, start + 500))) for start in range(0, len(images), 500)])


def judged(model: nn.Module, images: ImageData) -> dict[str, Any]:
    """Accuracy and certified accuracy in percent, by each constant that there is.

    They are those of all layers but the last: ``claimed`` by their library's text, ``proved`` by this library's bounds
    for the weights as they are. Radii are the pairwise ones ``min_j (z_i − z_j)/(L ‖w_i − w_j‖)``.
    """
    found = of_all(model, images)
    right = found.argmax(dim=1) == images.labels
    line: dict[str, Any] = {"images": len(images), "clean": percent(right)}
    constants: dict[str, float] = {}
    if isinstance(model, PeerClassifier):
        constants = {"claimed": model.claimed / model.std, "proved": model.proved(images.floats([0]))}
        head = model.head.weight
    elif isinstance(model, ImageClassifier) and certified(model):
        # scores in float32, as the attacks see them: model.radius(x) in float64 takes sixty times as long
        constants, head = {"proved": lipschitz(model.body)}, model.head.operator.weight
    radii = {kind: pairwise_radius(found, head, lipschitz=constant) for kind, constant in constants.items()}
    line["lipschitz"] = constants
    for name, epsilons in (("certified", EPSILONS), ("curve", CURVE)):
        line[name] = {
            kind: dict(zip(map("{:.4g}".format, epsilons), certified_accuracy(radius, right, epsilons), strict=True))
            for kind, radius in radii.items()
        }
    return line


def percent(which: Tensor) -> float:
    """Of the images for which it holds."""
    return round(100.0 * float(which.double().mean()), 3)


def slope(model: nn.Module, images: ImageData, *, count: int = 64) -> float:
    """The largest singular value of the scores' Jacobian at the first images: a lower bound of the constant."""
    x = images.floats(slice(count)).requires_grad_()
    found = model(x)
    rows = [torch.autograd.grad(found[:, k].sum(), x, retain_graph=True)[0].flatten(1) for k in range(found.size(1))]
    return float(torch.linalg.matrix_norm(torch.stack(rows, dim=1).double(), 2).max())


def value(line: Mapping[str, Any]) -> float:
    """What a candidate is chosen by; below zero where its training failed."""
    if "failed" in line:
        return -1.0
    by_claim = line["val"]["certified"].get("claimed") or line["val"]["certified"].get("proved")
    return float(by_claim[f"{SMALL:.4g}"] if by_claim else line["val"]["clean"])


def search(network: str, *, out: Path, limit: int | None, epochs: int) -> None:
    """Train every candidate shortly, and write down how it did on the validation images."""
    train, val = data(limit)
    lines = out / "search.jsonl"
    done = {(line["network"], line["candidate"], line["epochs"], line["train"]) for line in read(lines)}
    for candidate in CANDIDATES[network]:
        if (network, candidate.name, epochs, train.name) in done:
            continue
        torch.manual_seed(0)
        model = build(network, candidate)
        line: dict[str, Any] = {"network": network, "candidate": candidate.name, "parameters": parameters(model)}
        line |= {"epochs": epochs, "train": train.name}
        try:
            result = fit_images(model, train, fit_options(candidate, epochs=epochs), progress=False)
            line |= {"seconds": round(result.seconds, 1), "cpu_seconds": round(result.cpu_seconds, 1)}
            line["val"] = judged(at_rest(model), val)
        except FloatingPointError as error:
            line["failed"] = str(error)
        append(lines, [line | about()])
        print(f"{value(line):6.2f}  {candidate.name}", flush=True)


def ranked(network: str, out: Path) -> list[Candidate]:
    """The candidates, those that did best in the search first; as they are listed without one."""
    lines = [line for line in read(out / "search.jsonl") if line["network"] == network]
    found = {line["candidate"]: value(line) for line in lines}
    return sorted(CANDIDATES[network], key=lambda candidate: -found.get(candidate.name, -0.5))


def train(network: str, *, scratch: Path, out: Path, limit: int | None, epochs: int, seed: int) -> None:
    """Train one network to the end, judge it, and keep its weights."""
    train_images, val = data(limit)
    done = {(line["network"], line["seed"], line["epochs"], line["train"]) for line in read(out / "train.jsonl")}
    if (network, seed, epochs, train_images.name) in done:
        print(f"{network}: trained already")
        return
    failed: list[str] = []
    for rank, candidate in enumerate(ranked(network, out)):
        torch.manual_seed(seed)
        model = build(network, candidate)
        print(f"{network}: {parameters(model):,} parameters, {candidate.name}", flush=True)
        options, checkpoint = fit_options(candidate, epochs=epochs), scratch / f"{network}-{seed}-{rank}.checkpoint"
        try:
            result = fit_images(model, train_images, options, val=val, seed=seed, checkpoint=checkpoint)
            break
        except FloatingPointError as error:  # then the next best; the line says so
            failed.append(f"{candidate.name}: {error}")
    else:
        raise FloatingPointError(f"no candidate of {network} can be trained: {failed}")
    torch.save({"candidate": candidate.name, "weights": model.state_dict()}, scratch / f"{network}-{seed}.pt")
    still = at_rest(model)
    test = load_images("cifar10", "test")
    if limit is not None:
        test = first(test, limit)
    line = {
        "network": network,
        "seed": seed,
        "candidate": candidate.name,
        "failed": failed,
        "parameters": parameters(model),
        "at_rest": sum(tensor.numel() for tensor in still.parameters()),
        "epochs": epochs,
        "batch_size": BATCH,
        "ema": EMA,
        "train": train_images.name,
        "note": train_images.note,
        "seconds": round(result.seconds, 1),
        "cpu_seconds": round(result.cpu_seconds, 1),
        "threads": 1,
        "val": judged(still, val),
        "test": judged(still, test),
        "slope": slope(still, test),
    } | about()
    append(out / "train.jsonl", [line])
    print(json.dumps({key: line[key] for key in ("network", "val", "test", "seconds")}), flush=True)


# attack --------------------------------------------------------------------------------------------------------------


def trained_network(network: str, scratch: Path, seed: int) -> nn.Module:
    """What ``train`` has kept, at rest."""
    file = scratch / f"{network}-{seed}.pt"
    if not file.is_file():
        raise SystemExit(f"there is no {file}: run the stage train first")
    saved = torch.load(file, weights_only=True)
    named = {candidate.name: candidate for candidate in CANDIDATES[network]}
    model = build(network, named[saved["candidate"]])
    model.load_state_dict(saved["weights"])
    return at_rest(model)


def attack(network: str, *, scratch: Path, out: Path, limit: int | None, seed: int, skip_certified: bool) -> None:
    """Attack a trained network; its lines are compacted into ``out`` after each attack."""
    still = trained_network(network, scratch, seed)
    claimed = still.lipschitz() if isinstance(still, PeerClassifier) else None
    test = load_images("cifar10", "test")
    lines = scratch / f"{network}-{seed}.attacks.jsonl"
    for what, count in ATTACKS:
        count = count if limit is None else min(count, limit)
        start = time.process_time()
        found = evaluate_images(
            still,
            (test.floats(slice(count)), test.labels[:count]),
            [what],
            out=lines,
            network=network,
            lipschitz=claimed,
            skip_certified=skip_certified,
        )
        # a file for each network: two of them may be attacked at the same time
        keep(out / f"attacks-{network}-{seed}.jsonl", compact(network, seed, found))
        print(
            f"{network} {what.name} {what.norm} {what.epsilon:.4g}: {survived(found):.1f} % of {count} survive, "
            f"{time.process_time() - start:.0f} s",
            flush=True,
        )


def inside(network: str, *, scratch: Path, out: Path, limit: int | None, seed: int) -> None:
    """AutoAttack on certified images, each within its radius; ends with an error where one falls."""
    still = trained_network(network, scratch, seed)
    if not certified(still):
        raise SystemExit(f"{network} has no proved radius")
    test = load_images("cifar10", "test")
    scores = of_all(still, test)
    radius = pairwise_radius(scores, still.head.operator.weight, lipschitz=lipschitz(still.body))
    below = (radius[:, None] * (1 - 1e-3) > torch.tensor(EPSILONS)).sum(dim=1)  # so many ε lie below the radius
    chosen = torch.where(scores.argmax(dim=1) == test.labels, below, 0).nonzero().flatten()[: limit or INSIDE]
    fallen, counts = 0, {}
    for place, epsilon in enumerate(EPSILONS):
        which = chosen[below[chosen] == place + 1]
        if not len(which):
            continue
        found = evaluate_images(
            still,
            (test.floats(which), test.labels[which]),
            [AutoAttack(norm="l2", epsilon=epsilon)],
            out=scratch / f"{network}-{seed}.inside.jsonl",
            network=network,
            progress=False,
        )
        if not all(line.certified for line in found):
            raise RuntimeError(f"an image of {network} was attacked at {epsilon} and is not certified there")
        fallen += sum(not line.survived for line in found)
        counts[f"{epsilon:.4g}"] = len(found)
        print(f"{network}: {len(found)} images at {epsilon:.4g}, {fallen} fallen so far", flush=True)
    line = {"network": network, "seed": seed, "images": len(chosen), "fallen": fallen, "at": counts}
    append(out / "inside.jsonl", [line | about()])


def survived(lines: list[ImageLine]) -> float:
    """Percent."""
    return 100.0 * sum(line.survived for line in lines) / len(lines)


def compact(network: str, seed: int, lines: list[ImageLine]) -> dict[str, Any]:
    """One line of an attack: what all images share, and a row for each image."""
    first = lines[0]
    parts = sorted({line.lost_to for line in lines if line.lost_to is not None})
    return {
        "network": network,
        "seed": seed,
        "model": first.model,
        "attack": first.attack,
        "norm": first.norm,
        "epsilon": first.epsilon,
        "settings": dict(first.settings),
        "images": len(lines),
        "clean": percent(torch.tensor([line.correct for line in lines])),
        "robust": percent(torch.tensor([line.survived for line in lines])),
        "certified": percent(torch.tensor([line.certified for line in lines])),
        "broken": sum(line.certified and not line.survived for line in lines),
        "proved": first.proved,
        "lipschitz": first.lipschitz,
        "seconds": round(sum(line.seconds for line in lines), 1),
        "forwards": round(sum(line.forwards for line in lines)),
        "batch_size": first.batch_size,
        "lost_to": parts,
        "columns": ["prediction", "correct", "survived", "lost_to", "distance", "radius"],
        "rows": [
            [
                line.prediction,
                int(line.correct),
                int(line.survived),
                None if line.lost_to is None else parts.index(line.lost_to),
                None if line.distance is None else round(line.distance, 4),
                None if line.radius is None else round(line.radius, 4),
            ]
            for line in lines
        ],
        "device": first.device,
        "commit": first.commit,
        "uncommitted_changes": first.uncommitted_changes,
        "versions": dict(first.versions),
    }


def keep(path: Path, line: Mapping[str, Any]) -> None:
    """Put a line in the place of a former one of the same network, seed and attack, or at the end."""

    def key(one: Mapping[str, Any]) -> tuple[Any, ...]:
        return tuple(one[name] for name in ("network", "seed", "attack", "norm", "epsilon"))

    others = [one for one in read(path) if key(one) != key(line)]
    partial = path.with_suffix(".partial")
    partial.write_text("".join(json.dumps(one) + "\n" for one in (*others, line)), encoding="utf-8")
    partial.replace(path)


# the table -----------------------------------------------------------------------------------------------------------

ABSENT = "not yet measured"


def measured(out: Path) -> tuple[list[Mapping[str, Any]], list[Mapping[str, Any]]]:
    """The lines of trainings and of attacks."""
    attacked = [line for path in sorted(out.glob("attacks-*.jsonl")) for line in read(path)]
    return read(out / "train.jsonl"), attacked


def latest(lines: list[Mapping[str, Any]], **wanted: Any) -> Mapping[str, Any] | None:
    """The last line with these fields."""
    found = [line for line in lines if all(line[key] == value for key, value in wanted.items())]
    return found[-1] if found else None


def table(out: Path) -> str:
    """All networks in markdown, a column each."""
    trained, attacked = measured(out)
    free = latest(trained, network="unconstrained")
    columns = [f"{what.name} {what.norm} {shown(what.epsilon)}" for what, _ in ATTACKS]
    kinds = ("claimed", "proved")
    head = ["", "parameters", "clean", "gap", *columns, *(f"constant, {kind}" for kind in kinds), "slope", "training"]
    certified_head = ["network", "by", *(f"certified at {shown(epsilon)}" for epsilon in EPSILONS)]
    rows, certified_rows = [], []
    for network in NETWORKS:
        line = latest(trained, network=network)
        if line is None:
            rows.append([network, *[ABSENT] * (len(head) - 1)])
            certified_rows.append([network, *[ABSENT] * (len(certified_head) - 1)])
            continue
        clean = line["test"]["clean"]
        constants = line["test"]["lipschitz"]
        cells = [network, f"{line['parameters']:,}", f"{clean:.1f}"]
        cells.append("—" if free is None else f"{clean - free['test']['clean']:+.1f}")
        for what, count in ATTACKS:
            found = latest(attacked, network=network, attack=what.name, norm=what.norm, epsilon=what.epsilon)
            cells.append(ABSENT if found is None or found["images"] < count else f"{found['robust']:.1f}")
        cells += [f"{constants[kind]:.3f}" if kind in constants else "—" for kind in kinds]
        cells += [f"{line['slope']:.2f}", f"{line['cpu_seconds'] / 60:.0f} min"]
        rows.append(cells)
        for kind, found in line["test"]["certified"].items():
            certified_rows.append([network, kind, *(f"{found[f'{epsilon:.4g}']:.1f}" for epsilon in EPSILONS)])
    names, *quantities = zip(head, *rows, strict=True)
    tables = [markdown(names, quantities), markdown(certified_head, certified_rows)]
    if attacked_inside := read(out / "inside.jsonl"):
        inside_rows = []
        for line in attacked_inside:
            counts = [str(line["at"].get(f"{epsilon:.4g}", 0)) for epsilon in EPSILONS]
            inside_rows.append([line["network"], str(line["images"]), *counts, str(line["fallen"])])
        inside_head = ["network", "certified images", *(f"at {shown(epsilon)}" for epsilon in EPSILONS), "fallen"]
        tables.append(markdown(inside_head, inside_rows))
    return "\n\n".join(tables)


def curves(out: Path) -> list[Curve]:
    """What is certified on all test images, and what the attacks leave of the first ones, network by network."""
    trained, attacked = measured(out)
    found = []
    for network in NETWORKS:
        line = latest(trained, network=network)
        if line is None:
            continue
        # of the peers what their text claims: one colour for a network
        values = line["test"]["curve"].get("claimed" if network in PEERS else "proved")
        if values is not None:
            found.append(Curve(network, "certified", CURVE, (tuple(values.values()),)))
        left = {0.0: line["test"]["clean"]}
        for epsilon in EPSILONS:
            lines = [one for one in attacked if one["network"] == network and one["norm"] == "l2"]
            robust = [survivors(one) for one in lines if math.isclose(one["epsilon"], epsilon)]
            if robust:
                left[epsilon] = percent(torch.tensor([all(image) for image in zip(*robust, strict=True)]))
        found.append(Curve(network, "attacked", tuple(left), (tuple(left.values()),)))
    return found


def survivors(line: Mapping[str, Any]) -> list[int]:
    """Of each image, whether it survived."""
    at = line["columns"].index("survived")
    return [row[at] for row in line["rows"]]


def shown(epsilon: float) -> str:
    """An ε as it is written."""
    pixels = epsilon * 255
    return f"{round(pixels)}/255" if math.isclose(pixels, round(pixels)) and pixels < 200 else f"{epsilon:g}"


def main() -> None:
    """Run one stage."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stage", choices=("search", "train", "attack", "inside", "table", "gpu"))
    parser.add_argument("network", nargs="?", choices=NETWORKS)
    parser.add_argument("--scratch", type=Path, help="checkpoints, and a line for each image; outside the repository")
    parser.add_argument("--out", type=Path, default=Path("docs/results/cifar10"))
    parser.add_argument("--page", type=Path, default=Path("docs/images.md"))
    parser.add_argument("--picture", type=Path, default=Path("docs/images/cifar10_curves.png"))
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--limit", type=int, help="so many images only, to try it out")
    parser.add_argument("--device", default="cuda", help="of the stage gpu; another one only to try it out")
    parser.add_argument("--skip-certified", action="store_true", help="do not attack what is certified; lines say so")
    options = parser.parse_args()
    if options.stage == "table":
        write_between(options.page, "cifar10", table(options.out))
        write_between(options.page, "cifar10_gpu", gpu_table(read(options.out / "gpu.jsonl")))
        if lines := curves(options.out):
            picture(
                lines,
                title="CIFAR-10: five networks of equal size, peers by their claim",
                out=options.picture,
            )
        return
    if options.scratch is None or (options.network is None) != (options.stage == "gpu"):
        parser.error(f"{options.stage} needs --scratch, and {'no' if options.stage == 'gpu' else 'a'} network")
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore", category=FutureWarning)  # of the peers, one for each build
    options.scratch.mkdir(parents=True, exist_ok=True)
    options.out.mkdir(parents=True, exist_ok=True)
    where = {"scratch": options.scratch, "out": options.out, "limit": options.limit}
    if options.stage == "search":
        search(
            options.network,
            out=options.out,
            limit=options.limit or SEARCH_IMAGES,
            epochs=options.epochs or SEARCH_EPOCHS,
        )
    elif options.stage == "train":
        train(options.network, **where, epochs=options.epochs or EPOCHS, seed=options.seed)
    elif options.stage == "attack":
        attack(options.network, **where, seed=options.seed, skip_certified=options.skip_certified)
    elif options.stage == "inside":
        inside(options.network, **where, seed=options.seed)
    elif options.device == "cuda" and not torch.cuda.is_available():
        print("skipped: there is no GPU here")
    else:
        run_on_gpu(**where, device=options.device, epochs=options.epochs)


if __name__ == "__main__":
    main()
