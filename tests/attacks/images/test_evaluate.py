"""A line an image: complete, resumable, and at odds with no certificate."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn

from contractive_gnn.attacks.base import AttackError
from contractive_gnn.attacks.images import (
    APGD,
    PGD,
    AutoAttack,
    CertificateError,
    ImageAttack,
    ImageLine,
    Square,
    evaluate_images,
    read_lines,
)
from contractive_gnn.attacks.images.attack import Run
from contractive_gnn.attacks.images.victim import Victim
from contractive_gnn.datasets.images import load_images
from contractive_gnn.dynamics import GradientFlow
from contractive_gnn.lines import ResultsError, open_alone
from contractive_gnn.nn import Flow
from contractive_gnn.nn.images import ImageClassifier
from contractive_gnn.nn.lipschitz import LipschitzModule, Sequential
from contractive_gnn.operators import Conv2d, Dense


class Affine(LipschitzModule):
    """Scores of an image, by a matrix of a known norm, times ``share``."""

    def __init__(self, pixels: int = 64, classes: int = 10, *, share: float = 1.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(classes, pixels) / pixels**0.5)
        self.share = share

    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1) @ self.weight.t()

    def lipschitz(self) -> float:
        return self.share * float(Dense(self.weight.detach()).norm_bound())


def digits(count: int) -> tuple[Tensor, Tensor]:
    data = load_digits()
    return torch.tensor(data.images[:count] / 16, dtype=torch.float32)[:, None], torch.tensor(data.target[:count])


def fitted(model: nn.Module, x: Tensor, y: Tensor, steps: int = 40) -> None:
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    for _ in range(steps):
        optimizer.zero_grad()
        nn.functional.cross_entropy(10 * model(x), y).backward()
        optimizer.step()


@pytest.fixture(scope="module")
def linear() -> tuple[Affine, Tensor, Tensor]:
    x, y = digits(60)
    model = Affine()
    fitted(model, x, y)
    return model, x, y


QUICK: Sequence[ImageAttack] = (
    APGD(norm="l2", epsilon=0.3, num_steps=10),
    Square(norm="linf", epsilon=0.05, num_queries=20),
)


def comparable(lines: Sequence[ImageLine]) -> list[ImageLine]:
    return [dataclasses.replace(line, seconds=0.0) for line in lines]


def test_a_line_says_what_happened(linear: tuple[Affine, Tensor, Tensor], tmp_path: Path) -> None:
    model, x, y = linear
    wrong = y.clone()
    wrong[0] = (y[0] + 1) % 10
    out = tmp_path / "folder" / "lines.jsonl"
    lines = evaluate_images(model, (x, wrong), QUICK, out=out, network="linear", batch_size=25, progress=False)
    assert [(line.attack, line.index) for line in lines] == [
        (attack.name, index) for attack in QUICK for index in range(60)
    ]
    assert read_lines(out) == lines
    first = lines[0]
    assert (first.correct, first.survived, first.lost_to, first.distance) == (False, False, None, None)
    assert (first.seconds, first.forwards, first.certified) == (0.0, 0.0, False)
    scores = model(x).detach()
    for attack, own in ((QUICK[0], lines[:60]), (QUICK[1], lines[60:])):
        assert {line.prediction == line.label for line in own if line.correct} == {True}
        assert [line.label for line in own] == wrong.tolist()
        assert [line.prediction for line in own] == scores.argmax(dim=1).tolist()
        assert {line.survived for line in own} == {True, False}
        for line in own:
            assert (line.norm, line.epsilon, line.settings) == (attack.norm, attack.epsilon, attack.settings())
            assert (line.distance is not None) == (line.lost_to is not None) == (line.correct and not line.survived)
            assert line.distance is None or line.distance <= attack.epsilon * (1 + 1e-6)
            assert line.lipschitz == model.lipschitz()
            assert line.proved
            assert line.radius is not None
            top = scores[line.index].topk(2).values
            assert line.radius == pytest.approx(float(top[0] - top[1]) / (2**0.5 * model.lipschitz()), abs=1e-4)
            reach = line.epsilon * (8 if line.norm == "linf" else 1)  # 64 pixels
            assert line.certified == (line.correct and line.radius > reach * (1 + 1e-5))
            assert line.attacked
            assert line.network == "linear"
            assert line.versions["torchattacks"]
    assert any(line.certified for line in lines)
    assert len({line.model for line in lines}) == 1


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.99])
def test_a_killed_run_goes_on(linear: tuple[Affine, Tensor, Tensor], tmp_path: Path, share: float) -> None:
    model, x, y = linear
    whole = evaluate_images(model, (x, y), QUICK, out=tmp_path / "whole.jsonl", batch_size=25, progress=False)
    content = (tmp_path / "whole.jsonl").read_bytes()
    out = tmp_path / "cut.jsonl"
    out.write_bytes(content[: int(share * len(content))])  # in the middle of a line, and of a batch
    lines = evaluate_images(model, (x, y), QUICK, out=out, batch_size=25, progress=False)
    assert comparable(lines) == comparable(whole)
    written = read_lines(out)
    assert len(written) == len({line.key for line in written}) == 120
    assert evaluate_images(model, (x, y), QUICK, out=out, batch_size=25, progress=False) == lines
    assert len(read_lines(out)) == 120


@dataclass(frozen=True, kw_only=True)
class Interrupted(ImageAttack):
    """Stops the run in its third batch."""

    batches: ClassVar[list[int]] = []

    @property
    def name(self) -> str:
        return "interrupted"

    def _runs(self, victim: Victim, classes: int) -> Iterator[Run]:
        self.batches.append(1)
        if len(self.batches) == 3:
            raise KeyboardInterrupt
        yield lambda x, y: x


def test_an_interrupted_run_keeps_what_it_has(linear: tuple[Affine, Tensor, Tensor], tmp_path: Path) -> None:
    model, x, y = linear
    attack = Interrupted(norm="l2", epsilon=0.1)
    Interrupted.batches.clear()
    for _ in range(2):
        try:
            lines = evaluate_images(
                model, (x, y), [attack], out=tmp_path / "lines.jsonl", batch_size=10, progress=False
            )
        except KeyboardInterrupt:
            assert len(read_lines(tmp_path / "lines.jsonl")) == 20
    assert len(lines) == 60
    assert len(Interrupted.batches) == 2 + 1 + 4  # no batch was attacked twice, but for the one that broke off
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_other_models_attacks_and_images_are_kept_apart(linear: tuple[Affine, Tensor, Tensor], tmp_path: Path) -> None:
    model, x, y = linear
    out = tmp_path / "lines.jsonl"

    def run(net: nn.Module, *attacks: ImageAttack, count: int = 20) -> list[ImageLine]:
        return evaluate_images(net, (x[:count], y[:count]), attacks, out=out, progress=False)

    first = run(model, QUICK[0])
    other = Affine()
    run(other, QUICK[0])
    run(model, APGD(norm="l2", epsilon=0.31, num_steps=10))
    run(model, APGD(norm="l2", epsilon=0.3, num_steps=11))
    assert len(read_lines(out)) == 80
    assert run(model, QUICK[0]) == first
    longer = run(model, QUICK[0], count=30)
    assert longer[:20] == first
    assert len(read_lines(out)) == 90
    with pytest.raises(ResultsError, match="holds apgd-ce on another image 0 than that of these data"):
        evaluate_images(model, (x.roll(3, dims=0), y.roll(3)), [QUICK[0]], out=out, progress=False)
    changed = x.clone()
    changed[7, 0, 0, 0] += 0.01
    with pytest.raises(ResultsError, match="another image 7"):
        evaluate_images(model, (changed, y), [QUICK[0]], out=out, progress=False)
    assert len(read_lines(out)) == 90
    model.weight.data[0, 0] += 1e-3
    try:
        assert run(model, QUICK[0])[0].model != first[0].model
    finally:
        model.weight.data[0, 0] -= 1e-3


def test_a_file_has_one_writer_and_only_lines(linear: tuple[Affine, Tensor, Tensor], tmp_path: Path) -> None:
    model, x, y = linear
    out = tmp_path / "lines.jsonl"
    with open_alone(out), pytest.raises(ResultsError, match="another run is writing to"):
        evaluate_images(model, (x, y), QUICK, out=out, progress=False)
    out.write_text('{"network": "a"}\n')
    with pytest.raises(ResultsError, match=r"line 1: lacks the field\(s\) model, index"):
        evaluate_images(model, (x, y), QUICK, out=out, progress=False)
    out.write_text("[]\n")
    with pytest.raises(ResultsError, match="expected a JSON object, got list"):
        read_lines(out)
    with pytest.raises(ResultsError, match="cannot be read"):
        read_lines(tmp_path / "none.jsonl")


class TestCertificates:
    def test_a_constant_that_is_none_ends_the_evaluation(
        self, linear: tuple[Affine, Tensor, Tensor], tmp_path: Path
    ) -> None:
        model, x, y = linear
        model.share = 0.3
        try:
            with pytest.raises(CertificateError, match=r"image \d+ is certified at ε = 0.3 in l2 and apgd-ce changed"):
                evaluate_images(model, (x, y), QUICK, out=tmp_path / "lines.jsonl", progress=False)
            saved = torch.load(tmp_path / "lines.broken.pt")
            image, moved, label = saved["image"], saved["moved"], y[saved["index"]]
            assert torch.equal(image, x[saved["index"]])
            assert int(model(image[None]).argmax()) == int(label)
            assert int(model(moved[None]).argmax()) != int(label)
            assert 0 < float((moved - image).norm()) <= 0.3 * (1 + 1e-6)
            assert read_lines(tmp_path / "lines.jsonl") == []
        finally:
            model.share = 1.0

    def test_a_claim_of_others_is_written_down_not_defended(self, linear: tuple[Affine, Tensor, Tensor]) -> None:
        model, x, y = linear
        lines = evaluate_images(model, (x, y), QUICK[:1], lipschitz=0.3 * model.lipschitz(), progress=False)
        assert not any(line.proved for line in lines)
        assert any(line.certified and not line.survived for line in lines)

    def test_a_classifier_of_images_has_the_radii_of_its_last_layer(self) -> None:
        x, y = digits(12)
        model = ImageClassifier(1, 10, size=8, channels=(8,), num_layers=1).eval()
        lines = evaluate_images(model, (x, y), QUICK[:1], progress=False)
        radii = model.radius(x)
        assert [line.radius for line in lines] == pytest.approx(radii.tolist(), abs=1e-4)
        assert all(line.radius <= radius for line, radius in zip(lines, radii.tolist(), strict=True))
        assert {line.lipschitz for line in lines} == {model.lipschitz()}
        assert all(line.radius > model.radius(x, pairwise=False)[line.index] - 1e-4 for line in lines)

    def test_no_constant_no_certificate(self) -> None:
        x, y = digits(10)
        lines = evaluate_images(nn.Sequential(nn.Flatten(), nn.Linear(64, 10)), (x, y), QUICK[:1], progress=False)
        assert {(line.lipschitz, line.proved, line.radius, line.certified) for line in lines} == {
            (None, False, None, False)
        }

    def test_what_is_certified_may_be_left_out(self, linear: tuple[Affine, Tensor, Tensor]) -> None:
        model, x, y = linear
        whole = evaluate_images(model, (x, y), QUICK, progress=False)
        short = evaluate_images(model, (x, y), QUICK, skip_certified=True, progress=False)
        assert [line.certified for line in short] == [line.certified for line in whole]
        assert [line.attacked for line in short] == [not line.certified for line in short]
        assert all(line.survived for line in short if not line.attacked)
        assert sum(line.forwards for line in short) < sum(line.forwards for line in whole)
        assert all(line.attacked for line in whole)

    @pytest.mark.parametrize("kind", ["affine", "flow", "alternating"])
    def test_nothing_falls_inside_the_certified_radius(self, kind: str) -> None:
        """At the radii of a tenth, a half and nine tenths of the images; a lost one would raise."""
        x, y = digits(40)
        model: nn.Module = Affine() if kind == "affine" else flow_net()
        if kind == "alternating":
            model = ImageClassifier(1, 10, size=8, channels=(8,), num_layers=2, dense=(16,), kind="alternating")
        fitted(model, x, y, steps=15)
        (plain,) = (evaluate_images(model, (x, y), [PGD(norm="l2", epsilon=1e-3, num_steps=1)], progress=False),)
        radii = torch.tensor([line.radius for line in plain if line.correct])
        assert len(radii) > 20
        epsilons = [float(radii.quantile(share)) for share in (0.1, 0.5, 0.9)]
        strong = [APGD(norm="l2", epsilon=epsilon, loss="dlr", num_steps=30) for epsilon in epsilons]
        quick = AutoAttack(norm="l2", epsilon=epsilons[1], num_steps=6, num_queries=60)
        lines = evaluate_images(model, (x, y), [*strong, quick], progress=False)
        assert sum(line.certified for line in lines) > 40
        assert all(line.survived for line in lines if line.certified)
        assert any(line.correct and not line.survived for line in lines)


def flow_net() -> Sequential:
    """A step of a gradient flow of convolutions, then a linear layer."""
    kernel, bias = nn.Parameter(torch.randn(6, 1, 3, 3) / 3), nn.Parameter(torch.zeros(6, 1, 1))
    field = GradientFlow(Conv2d(kernel, padding=1, padding_mode="circular"), "leaky-relu", bias=bias)
    return Sequential(Flow(field, num_steps=1), nn.Flatten(), Affine())


def test_data_and_options_that_do_not_fit(linear: tuple[Affine, Tensor, Tensor]) -> None:
    model, x, y = linear
    with pytest.raises(ValueError, match="60 images and 59 labels"):
        evaluate_images(model, (x, y[1:]), QUICK, progress=False)
    with pytest.raises(ValueError, match="labels must lie in 0 … 9"):
        evaluate_images(model, (x, y + 1), QUICK, progress=False)
    with pytest.raises(ValueError, match="batch_size"):
        evaluate_images(model, (x, y), QUICK, batch_size=0, progress=False)
    with pytest.raises(ValueError, match="lipschitz"):
        evaluate_images(model, (x, y), QUICK, lipschitz=-1.0, progress=False)
    with pytest.raises(TypeError, match="skip_certified must be True or False"):
        evaluate_images(model, (x, y), QUICK, skip_certified="no", progress=False)  # type: ignore[arg-type]
    assert evaluate_images(model, (x, y), [], progress=False) == []


def test_a_loaded_set_is_taken_as_it_is(linear: tuple[Affine, Tensor, Tensor]) -> None:
    model, _, _ = linear
    data = load_images("digits", "test").subset(slice(12))
    lines = evaluate_images(model, data, QUICK[:1], progress=False)
    assert comparable(lines) == comparable(
        evaluate_images(model, (data.floats(), data.labels), QUICK[:1], progress=False)
    )
    assert [line.label for line in lines] == data.labels.tolist()


def test_the_bar_counts_images(
    linear: tuple[Affine, Tensor, Tensor], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    model, x, y = linear
    for _ in range(2):  # the second time from the file
        evaluate_images(model, (x, y), QUICK, out=tmp_path / "lines.jsonl", network="linear")
        shown = capsys.readouterr().err
        assert "linear" in shown
        assert "120/120" in shown
    evaluate_images(model, (x, y), QUICK, progress=False)
    assert capsys.readouterr().err == ""


def test_a_line_of_a_later_version_can_be_read(linear: tuple[Affine, Tensor, Tensor]) -> None:
    model, x, y = linear
    (line,) = evaluate_images(model, (x[:1], y[:1]), QUICK[:1], progress=False)
    assert ImageLine.from_line(json.dumps({**json.loads(line.to_line()), "new": 1})) == line


class TestResumed:
    """What a file holds is taken only where the same call would write it."""

    def test_another_constant_or_network_is_refused(
        self, linear: tuple[Affine, Tensor, Tensor], tmp_path: Path
    ) -> None:
        model, x, y = linear
        out = tmp_path / "lines.jsonl"
        given: dict[str, Any] = {"out": out, "progress": False}
        first = evaluate_images(model, (x, y), QUICK[:1], lipschitz=1, **given)
        assert evaluate_images(model, (x, y), QUICK[:1], lipschitz=1.0, **given) == first
        for other in ({"lipschitz": 2.0}, {}, {"lipschitz": 1.0, "network": "named"}):
            with pytest.raises(ResultsError, match="constant, whether it is proved"):
                evaluate_images(model, (x, y), QUICK[:1], **given, **other)
        assert len(read_lines(out)) == 60

    def test_what_was_left_out_is_attacked(self, linear: tuple[Affine, Tensor, Tensor], tmp_path: Path) -> None:
        model, x, y = linear
        given: dict[str, Any] = {"out": tmp_path / "lines.jsonl", "progress": False}
        short = evaluate_images(model, (x, y), QUICK[:1], skip_certified=True, **given)
        assert not all(line.attacked for line in short)
        whole = evaluate_images(model, (x, y), QUICK[:1], **given)
        assert all(line.attacked for line in whole)
        assert comparable(whole) == comparable(evaluate_images(model, (x, y), QUICK[:1], **given))
        assert evaluate_images(model, (x, y), QUICK[:1], skip_certified=True, **given) == whole

    def test_another_model_of_the_same_text_is_refused(self, tmp_path: Path) -> None:
        class Turned(nn.Module):
            def __init__(self, sign: float) -> None:
                super().__init__()
                self.sign = sign
                self.last = nn.Linear(64, 10)

            def forward(self, x: Tensor) -> Tensor:
                scores: Tensor = self.sign * self.last(x.flatten(1))
                return scores

        x, y = digits(20)
        one, other = Turned(1.0), Turned(-1.0)
        other.load_state_dict(one.state_dict())
        out = tmp_path / "lines.jsonl"
        evaluate_images(one, (x, y), QUICK[:1], out=out, progress=False)
        with pytest.raises(ResultsError, match="lines of another model with this text and these weights"):
            evaluate_images(other, (x, y), QUICK[:1], out=out, progress=False)


def test_what_is_no_data_and_no_attack_is_refused_in_words(linear: tuple[Affine, Tensor, Tensor]) -> None:
    model, x, y = linear
    wrong: list[tuple[Any, str]] = [
        ((x.numpy(), y.numpy()), "x must be a torch.Tensor, got ndarray"),
        (torch.utils.data.TensorDataset(x, y), r"data must be a pair \(images, labels\) of tensors, or ImageData"),
    ]
    for data, words in wrong:
        with pytest.raises(TypeError, match=words):
            evaluate_images(model, data, QUICK, progress=False)
    for pair, words in (((2 * x, y), r"entries of x must lie in \[0, 1\]"), ((x, y.float()), "one label for each")):
        with pytest.raises(ValueError, match=words):
            evaluate_images(model, pair, QUICK, skip_certified=True, progress=False)
    attacks: Any
    for attacks in (QUICK[0], ["apgd"]):
        with pytest.raises(TypeError, match="attacks must be a list of ImageAttack"):
            evaluate_images(model, (x, y), attacks, progress=False)
    with pytest.raises(TypeError, match=r"model must be a torch.nn.Module, got function"):
        evaluate_images(lambda z: z, (x, y), QUICK, progress=False)  # type: ignore[arg-type, return-value]


def test_a_model_in_double_precision_takes_a_loaded_set_and_says_what_else(
    linear: tuple[Affine, Tensor, Tensor],
) -> None:
    model, x, y = linear
    double = Affine().double()
    double.load_state_dict(model.state_dict())
    data = load_images("digits", "test").subset(slice(12))
    assert len(evaluate_images(double, data, QUICK[:1], progress=False)) == 12
    with pytest.raises(
        AttackError, match=r"parameters of torch.float64 on cpu and the images are torch.float32 on cpu"
    ):
        evaluate_images(double, (x, y), QUICK[:1], progress=False)


def test_numbers_of_numpy_and_fractions_are_written_down(linear: tuple[Affine, Tensor, Tensor], tmp_path: Path) -> None:
    model, x, y = linear
    attack = APGD(norm="l2", epsilon=Fraction(36, 255), num_steps=np.int64(2))  # type: ignore[arg-type]
    assert attack == APGD(norm="l2", epsilon=36 / 255, num_steps=2)
    out = tmp_path / "lines.jsonl"
    lines = evaluate_images(model, (x, y), [attack], lipschitz=np.float32(2), out=out, progress=False)
    assert read_lines(out) == lines


def test_the_bar_is_closed_after_an_error(
    linear: tuple[Affine, Tensor, Tensor], capsys: pytest.CaptureFixture[str]
) -> None:
    from tqdm import tqdm

    model, x, y = linear
    Interrupted.batches.clear()
    with pytest.raises(KeyboardInterrupt):
        evaluate_images(model, (x, y), [Interrupted(norm="l2", epsilon=0.1)], batch_size=10)
    assert not any(bar.total == 60 for bar in tqdm._instances)
    capsys.readouterr()
