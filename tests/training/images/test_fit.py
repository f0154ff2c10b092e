"""Training classifiers: what it keeps, what it records, and that a killed run goes on bit for bit."""

from __future__ import annotations

import importlib.util
import json
import math
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from contractive_gnn.certificates.lipschitz import lipschitz_radius
from contractive_gnn.datasets.images import ImageData, hold_out
from contractive_gnn.lines import ResultsError, open_alone
from contractive_gnn.nn.lipschitz import Sequential
from contractive_gnn.training.images import (
    Augmentation,
    CheckpointError,
    ImageFitOptions,
    MarginLoss,
    TemperatureCrossEntropy,
    fit_images,
    image_accuracy,
    image_scores,
)

CHILD = '''
"""Train a certified classifier; where asked, die in the middle of an epoch as a killed process does."""

import os
import signal
import sys
from dataclasses import dataclass

import torch

from contractive_gnn.datasets.images import load_images
from contractive_gnn.nn.images import ImageClassifier
from contractive_gnn.training.images import Augmentation, ImageFitOptions, TemperatureCrossEntropy, fit_images

left = -1


@dataclass(frozen=True)
class Loss(TemperatureCrossEntropy):
    def __call__(self, scores, labels, lipschitz):
        global left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().__call__(scores, labels, lipschitz)


def train(checkpoint, kill_after=-1):
    global left
    left = kill_after
    data = load_images("digits").subset(slice(0, 320))
    torch.manual_seed(3)
    model = ImageClassifier(1, 10, size=8, channels=(8,), num_layers=2, dense=(16,))
    options = ImageFitOptions(
        epochs=4, batch_size=64, loss=Loss(0.25, 0.05), augment=Augmentation(padding=1, flip=False), threads=1
    )
    result = fit_images(model, data, options, seed=5, checkpoint=checkpoint, progress=False)
    return model, result


if __name__ == "__main__":
    train(sys.argv[1], int(sys.argv[2]))
'''


def options(**given: Any) -> ImageFitOptions:
    return ImageFitOptions(
        **{"epochs": 3, "batch_size": 20, "augment": Augmentation(padding=1), "ema": 0.8, "max_lr": 0.05, **given}
    )


def weights(model: nn.Module) -> list[Tensor]:
    return list(model.state_dict().values())


def same(one: nn.Module, other: nn.Module) -> bool:
    return all(torch.equal(a, b) for a, b in zip(weights(one), weights(other), strict=True))


def record(checkpoint: Path) -> Path:
    return checkpoint.with_name(f"{checkpoint.name}.jsonl")


@pytest.fixture
def fitted(stripes: ImageData, draw: Callable[[], nn.Module]) -> Callable[..., tuple[nn.Module, Any]]:
    """Draw a model and fit it on the first 80 images."""

    def fit(given: ImageFitOptions | None = None, **more: Any) -> tuple[nn.Module, Any]:
        torch.manual_seed(1)
        model = draw()
        data = more.pop("data", stripes.subset(slice(0, 80)))
        return model, fit_images(model, data, given or options(), progress=False, **more)

    return fit


def test_it_learns_and_says_what_it_did(fitted: Any, stripes: ImageData) -> None:
    val = stripes.subset(slice(80, 96), name="stripes/val")
    model, result = fitted(options(epochs=12, augment=None), val=val)
    assert [epoch.epoch for epoch in result.epochs] == list(range(1, 13))
    assert result.epochs[-1].loss < 0.7 * result.epochs[0].loss
    assert result.epochs[-1].train_accuracy > 60 > result.epochs[0].train_accuracy
    assert result.epochs[-1].val_accuracy > 75
    assert result.epochs[-1].val_accuracy == image_accuracy(model, val).clean
    assert {(epoch.val_certified, epoch.lipschitz) for epoch in result.epochs} == {(None, None)}
    assert result.seconds == sum(epoch.seconds for epoch in result.epochs)
    assert result.cpu_seconds > 0
    assert not model.training


def test_the_seed_says_it_all_and_the_callers_random_state_is_left(fitted: Any, stripes: ImageData) -> None:
    one, _ = fitted(seed=4)
    assert same(one, fitted(seed=4)[0])
    assert not same(one, fitted(seed=5)[0])
    before = torch.get_rng_state()
    fit_images(one, stripes, options(), progress=False)
    assert torch.equal(before, torch.get_rng_state())


def test_validation_changes_nothing(fitted: Any, stripes: ImageData) -> None:
    assert same(fitted()[0], fitted(val=stripes.subset(slice(80, 96)))[0])


def test_the_average_is_what_is_kept(fitted: Any, stripes: ImageData) -> None:
    plain, averaged = fitted(options(ema=None))[0], fitted(options(ema=0.8))[0]
    assert not same(plain, averaged)
    # the same steps were taken: only what is kept differs, and buffers are those of the last step
    assert torch.equal(plain.norm.running_mean, averaged.norm.running_mean)
    assert same(plain, fitted(options(ema=0.0))[0])


@pytest.mark.parametrize("epoch", [1, 2])
def test_a_run_goes_on_bit_for_bit(fitted: Any, tmp_path: Path, epoch: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """With dropout, running statistics, augmentation and an average: all that a state consists of."""
    whole, result = fitted()
    path, calls = tmp_path / "x.pt", 0
    from contractive_gnn.training.batches import loop

    save = loop.save_checkpoint

    def stop(*arguments: Any, **named: Any) -> None:
        nonlocal calls
        save(*arguments, **named)
        calls += 1
        if calls == epoch:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(loop, "save_checkpoint", stop)
        with pytest.raises(KeyboardInterrupt):
            fitted(checkpoint=path)
    resumed, later = fitted(checkpoint=path)
    assert same(whole, resumed)
    assert later.resumed == epoch
    assert [record.loss for record in later.epochs] == [record.loss for record in result.epochs]
    again, finished = fitted(checkpoint=path)
    assert same(whole, again)
    assert finished.resumed == 3
    lines = [json.loads(line) for line in record(path).read_text().splitlines()]
    assert [line["epoch"] for line in lines] == [1, 2, 3]
    assert lines[2]["loss"] == later.epochs[2].loss


def test_a_killed_process_goes_on_bit_for_bit(tmp_path: Path) -> None:
    script = tmp_path / "child.py"
    script.write_text(CHILD)
    spec = importlib.util.spec_from_file_location("child", script)
    assert spec is not None
    assert spec.loader is not None
    child = importlib.util.module_from_spec(spec)
    sys.modules["child"] = child  # its dataclass asks for it
    try:
        spec.loader.exec_module(child)
        whole, _ = child.train(tmp_path / "whole.pt")
        path = tmp_path / "killed.pt"
        killed = subprocess.run([sys.executable, script, path, "13"], capture_output=True, check=False, timeout=300)
        assert killed.returncode == -signal.SIGKILL, killed.stderr
        resumed, result = child.train(path)
    finally:
        del sys.modules["child"]
    assert result.resumed == 2  # of five steps each
    assert same(whole, resumed)
    assert sorted(file.name for file in tmp_path.glob("killed*")) == ["killed.pt", "killed.pt.jsonl"]


def test_a_checkpoint_of_another_training_is_refused(fitted: Any, stripes: ImageData, tmp_path: Path) -> None:
    path = tmp_path / "x.pt"
    fitted(checkpoint=path, seed=0)
    kept = path.read_bytes()
    others: list[tuple[str, dict[str, Any]]] = [
        ("epochs: 3 there, 4 here", {"given": options(epochs=4)}),
        ("augment: ", {"given": options(augment=None)}),
        (
            r"loss: TemperatureCrossEntropy\(.*\) there, MarginLoss\(margin=0.07\) here",
            {"given": options(loss=MarginLoss())},
        ),
        ("seed: 0 there, 1 here", {"seed": 1}),
        ("train: stripes/train .* there, stripes/train", {"data": stripes.subset(slice(1, 81))}),
        ("val: None there, stripes/train", {"val": stripes}),
    ]
    for words, given in others:
        with pytest.raises(CheckpointError, match=words):
            fitted(checkpoint=path, **given)
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 3))
    with pytest.raises(CheckpointError, match=r"model: Halved .* there, Sequential"):
        fit_images(model, stripes.subset(slice(0, 80)), options(), checkpoint=path, progress=False)
    assert path.read_bytes() == kept


class Scaled(nn.Module):
    """A linear layer of the image times a number that no text of it shows."""

    def __init__(self, scale: float) -> None:
        super().__init__()
        self.scale = scale
        self.last = nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.scale * x.flatten(1))  # type: ignore[no-any-return]


def test_a_checkpoint_of_a_model_that_answers_otherwise_is_refused(stripes: ImageData, tmp_path: Path) -> None:
    path = tmp_path / "x.pt"
    fit_images(Scaled(1.0), stripes, options(), checkpoint=path, progress=False)
    assert fit_images(Scaled(1.0), stripes, options(), checkpoint=path, progress=False).resumed == 3
    with pytest.raises(CheckpointError, match="Scaled gives other answers than it gave then"):
        fit_images(Scaled(1.1), stripes, options(), checkpoint=path, progress=False)


@dataclass(frozen=True)
class Bursting(TemperatureCrossEntropy):
    """Not finite from a batch on; its text is the same whichever that is."""

    batches: list[int] = field(default_factory=lambda: [6], repr=False)

    def __call__(self, scores: Tensor, labels: Tensor, lipschitz: float | None) -> Tensor:
        self.batches[0] -= 1
        loss = super().__call__(scores, labels, lipschitz)
        return loss * math.inf if self.batches[0] < 0 else loss


def test_a_loss_that_is_not_finite_stops_with_the_last_epoch_kept(fitted: Any, tmp_path: Path) -> None:
    path = tmp_path / "x.pt"
    with pytest.raises(FloatingPointError, match="the training loss is inf in epoch 2; lower max_lr"):
        fitted(options(loss=Bursting()), checkpoint=path)
    assert len(record(path).read_text().splitlines()) == 1
    assert fitted(options(loss=Bursting(batches=[1000])), checkpoint=path)[1].resumed == 1


def test_certified_accuracy_is_recorded_where_the_constant_is_proved(flattened: Sequential, stripes: ImageData) -> None:
    """Of the identity: images of three pixels in one row are their own scores."""
    row = replace(stripes, images=stripes.images[:, :, :1, :3].clone())
    accuracy = image_accuracy(flattened, row, epsilon=0.1)
    radius = lipschitz_radius(row.floats().double().flatten(1), lipschitz=1.0)
    right = row.floats().flatten(1).argmax(dim=1) == row.labels
    assert accuracy.lipschitz == 1.0
    assert accuracy.clean == pytest.approx(100 * float(right.double().mean()))
    assert accuracy.certified == pytest.approx(100 * float((right & (radius >= 0.1)).double().mean()))
    assert 0 < accuracy.certified < accuracy.clean
    assert image_accuracy(flattened, row, epsilon=0.0).certified == accuracy.clean


def test_scores_are_those_of_evaluation_in_batches_of_any_size(
    draw: Callable[[], nn.Module], stripes: ImageData
) -> None:
    model = draw()
    model.train()
    scores = image_scores(model, stripes, batch_size=7)
    assert model.training
    model.eval()
    with torch.no_grad():
        assert torch.allclose(scores, model(stripes.floats()), atol=1e-6)
    with pytest.raises(ValueError, match=r"the model gives .* \[96, 3\] for 96 images of 4 classes"):
        image_scores(model, replace(stripes, classes=("a", "b", "c", "d")))
    with torch.no_grad():
        model.last.bias.fill_(math.nan)  # type: ignore[union-attr, operator]
    with pytest.raises(ValueError, match="scores are not finite"):
        image_scores(model, stripes)


@pytest.mark.parametrize(
    "given",
    [
        {"optimiser": "sgd"},
        {"optimiser": "adamw", "weight_decay": 0.1},
        {"schedule": "constant"},
        {"dtype": "bfloat16"},
        {"channels_last": True},
        {"loss": MarginLoss(0.5)},
    ],
)
def test_every_option_trains(fitted: Any, given: dict[str, Any]) -> None:
    usual, changed = fitted(options(epochs=2))[0], fitted(options(epochs=2, **given))[0]
    assert all(bool(torch.isfinite(value).all()) for value in weights(changed))
    if given.keys() == {"channels_last"}:
        assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(weights(usual), weights(changed), strict=True))
    else:
        assert not same(usual, changed)
    assert {value.dtype for value in weights(changed)} == {torch.float32, torch.int64}


def test_a_model_in_float64_is_trained_in_it(stripes: ImageData) -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 3)).double()
    fit_images(model, stripes, options(), progress=False)
    assert model[1].weight.dtype == torch.float64


def test_one_epoch_of_one_batch_is_enough(fitted: Any) -> None:
    model, result = fitted(options(epochs=1, batch_size=1000))
    assert len(result.epochs) == 1
    assert all(bool(torch.isfinite(value).all()) for value in weights(model))


def test_a_frozen_part_stays(stripes: ImageData) -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, 3))
    model[1].requires_grad_(False)
    before = [parameter.clone() for parameter in model.parameters()]
    fit_images(model, stripes, options(optimiser="adamw", weight_decay=0.1), progress=False)
    changed = [not torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True)]
    assert changed == [False, False, True, True]
    model.requires_grad_(False)
    with pytest.raises(ValueError, match="Sequential has no parameter that learns"):
        fit_images(model, stripes, options(), progress=False)


def test_threads_are_put_back(fitted: Any) -> None:
    before = torch.get_num_threads()
    fitted(options(threads=before + 1, epochs=1))
    assert torch.get_num_threads() == before


def test_the_loss_that_needs_a_constant_refuses_a_model_without(fitted: Any) -> None:
    with pytest.raises(ValueError, match=r"TemperatureCrossEntropy\(.*needs a model with a finite, positive Lipschitz"):
        fitted(options(loss=TemperatureCrossEntropy(offset=0.1)))


def test_the_bar_or_the_lines(
    stripes: ImageData, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("tqdm")

    def fit() -> str:
        fit_images(nn.Sequential(nn.Flatten(), nn.Linear(16, 3)), stripes, options(batch_size=48), progress=True)
        return capsys.readouterr().err

    assert "6/6" in fit()
    monkeypatch.setitem(sys.modules, "tqdm", None)  # not installed
    lines = fit().splitlines()
    assert [line.partition(",")[0] for line in lines] == ["epoch 1", "epoch 2", "epoch 3"]
    assert "loss 1." in lines[0]


def test_what_does_not_fit_is_refused(stripes: ImageData, draw: Callable[..., nn.Module]) -> None:
    val = hold_out(stripes, 30)[1]
    for given, error, words in (
        ({"train": stripes.images}, TypeError, "train must be ImageData"),
        ({"val": (1, 2)}, TypeError, "val must be ImageData"),
        ({"val": replace(val, images=val.images[:, :, :3])}, ValueError, "give a validation split of the same data"),
        ({"options": {"epochs": 2}}, TypeError, "options must be ImageFitOptions"),
        ({"seed": -1}, ValueError, "seed must be at least 0"),
        ({"progress": "no"}, TypeError, "progress must be True or False"),
        ({"model": draw(4)}, ValueError, r"\[20, 4\] for 20 images of 3 classes"),
    ):
        call = {"model": draw(), "train": stripes, "options": options(), "progress": False, **given}
        with pytest.raises(error, match=words):
            fit_images(**call)  # type: ignore[arg-type]


class Rooted(nn.Module):
    """Its scores and its loss are finite, its gradient is not: that of a root at 0."""

    def __init__(self) -> None:
        super().__init__()
        self.last = nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        scores: Tensor = self.last(x.flatten(1))
        return scores + (0.0 * self.last.weight.sum()).abs().sqrt()


@pytest.mark.parametrize("val", [False, True])
def test_weights_that_are_not_finite_are_not_kept(stripes: ImageData, tmp_path: Path, val: bool) -> None:
    """After the last step of an epoch no loss would tell."""
    path = tmp_path / "x.pt"
    for _ in range(2):
        with pytest.raises(FloatingPointError, match="are not finite after epoch 1; lower max_lr"):
            fit_images(
                Rooted(),
                stripes,
                options(batch_size=200),
                val=stripes if val else None,
                checkpoint=path,
                progress=False,
            )
        assert not path.exists()


@pytest.mark.parametrize(("epochs", "batch_size", "warmup"), [(5, 80, 0.2), (1, 16, 0.2), (1, 20, 0.25), (1, 80, 0.5)])
def test_one_cycle_takes_any_number_of_steps(fitted: Any, epochs: int, batch_size: int, warmup: float) -> None:
    """Also where warmup × steps is 1: the rise has one step, and torch would divide by 0."""
    given = options(epochs=epochs, batch_size=batch_size, warmup=warmup, augment=None)
    assert math.isfinite(fitted(given)[1].epochs[-1].loss)


def test_the_record_has_a_name_of_its_own(fitted: Any, tmp_path: Path) -> None:
    """What else a user has in net.jsonl, such as the lines of an evaluation, stays; and so does a checkpoint there."""
    lines = tmp_path / "net.jsonl"
    lines.write_text("lines of an evaluation\n")
    fitted(checkpoint=tmp_path / "net.pt")
    assert lines.read_text() == "lines of an evaluation\n"
    whole, _ = fitted(checkpoint=tmp_path / "other.jsonl")
    again, result = fitted(checkpoint=tmp_path / "other.jsonl")
    assert result.resumed == 3
    assert same(whole, again)


def test_one_run_at_a_time_has_a_checkpoint(fitted: Any, tmp_path: Path) -> None:
    path = tmp_path / "x.pt"
    with open_alone(record(path)), pytest.raises(ResultsError, match=r"another run is writing to .*x.pt.jsonl"):
        fitted(checkpoint=path)
    assert fitted(checkpoint=path)[1].resumed == 0


def test_a_checkpoint_of_other_frozen_parameters_is_refused(stripes: ImageData, tmp_path: Path) -> None:
    path = tmp_path / "x.pt"
    model = Scaled(1.0)
    model.last.bias.requires_grad_(False)
    fit_images(model, stripes, options(), checkpoint=path, progress=False)
    with pytest.raises(CheckpointError, match=r"last\.bias learned there or learn here, not both"):
        fit_images(Scaled(1.0), stripes, options(), checkpoint=path, progress=False)
    assert fit_images(model, stripes, options(), checkpoint=path, progress=False).resumed == 3


def test_what_is_no_model_or_not_yet_one_is_refused_in_words(stripes: ImageData) -> None:
    for call in (lambda model: fit_images(model, stripes, progress=False), lambda model: image_scores(model, stripes)):
        with pytest.raises(TypeError, match=r"model must be a torch.nn.Module, got function"):
            call(lambda x: x)
        with pytest.raises(ValueError, match="has lazy layers, without weights as yet: call it on an image first"):
            call(nn.Sequential(nn.Flatten(), nn.LazyLinear(3)))


def test_each_part_keeps_its_mode_when_it_is_judged(stripes: ImageData) -> None:
    model = nn.Sequential(nn.Flatten(), nn.Dropout(), nn.Linear(16, 3))
    model[1].eval()
    image_accuracy(model, stripes)
    assert [model.training, model[1].training, model[2].training] == [True, False, True]


def test_a_validation_split_of_other_data_is_refused_by_what_differs(stripes: ImageData) -> None:
    others = {"white": replace(stripes, white=254), "classes": replace(stripes, classes=("x", "y", "z"))}
    for what, val in others.items():
        with pytest.raises(ValueError, match=f"{what} of train is .*, of val "):
            fit_images(Scaled(1.0), stripes, options(), val=val, progress=False)
