"""Every option that a help text, an error or the documentation names can be set."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest
import typer

from contractive_gnn.attacks import ATTACKS
from contractive_gnn.bench.cli import app
from contractive_gnn.bench.spaces import model_hyperparameters
from contractive_gnn.dynamics import DYNAMICS
from contractive_gnn.nn.models import MODELS, flow_gnn
from contractive_gnn.nn.similarity import Similarity
from contractive_gnn.training import FitOptions

ROOT = Path(__file__).parents[1]
TEXTS = sorted(
    [
        ROOT / "README.md",
        *ROOT.glob("docs/*.md"),
        # campaign.py misspells on purpose
        *(path for path in ROOT.glob("docs/experiments/*.py") if path.name != "campaign.py"),
        *(path for folder in ("contractive_gnn", "attacks", "datasets") for path in ROOT.glob(f"{folder}/**/*.py")),
    ]
)
HYPERPARAMETER = re.compile(r"\b(?:([a-z][a-z0-9-]*)\.)?(model|training|attack)\.([a-z_0-9]+)=")


def accepts(subject: str | None, section: str, key: str) -> bool:
    """Whether a hyperparameter is an argument of what it is for; of any model, where it names none."""
    if section == "training":
        return key in FitOptions.names()
    if section == "attack":
        return subject in ATTACKS and key in inspect.signature(ATTACKS[subject].__init__).parameters
    makers = [MODELS[subject]] if subject in MODELS else list(MODELS.values()) if subject is None else [flow_gnn]
    if subject in DYNAMICS:
        return key in (model_hyperparameters(subject) or ())
    if subject in ("robust", "robust-provable"):
        makers.append(Similarity)
    return any(key in inspect.signature(maker).parameters for maker in makers)


def test_hyperparameters_that_are_named_exist() -> None:
    found = set()
    for path in TEXTS:
        text = path.read_text(encoding="utf-8")
        for named in HYPERPARAMETER.finditer(text):
            subject, section, key = named.groups(default="")
            own = re.search(r"\.py:\w+\.$", text[: named.start()])  # a model of the reader
            if f'register("{subject}")' not in text and not own:  # or a plug-in that the text itself writes
                found.add((path.relative_to(ROOT).as_posix(), subject or None, section, key))
    assert len(found) > 5
    missing = [entry for entry in sorted(found, key=str) if not accepts(*entry[1:])]
    assert not missing


@pytest.mark.parametrize(
    ("named", "there"),
    [
        (("csgnn", "model", "step_size"), False),
        (("csgnn", "model", "step"), True),
        ((None, "training", "epochs"), True),
        (("pgd", "attack", "epochs"), True),
        (("pgd", "attack", "lr"), False),
    ],
)
def test_what_does_not_exist_is_found(named: tuple[str | None, str, str], there: bool) -> None:
    assert accepts(*named) is there


def test_options_of_the_command_line_that_are_named_exist() -> None:
    command = typer.main.get_command(app)
    known = {"--help"}
    for part in (command, *command.commands.values()):  # type: ignore[attr-defined]
        for parameter in part.params:
            known.update((*parameter.opts, *parameter.secondary_opts))
    named = {}
    for path in TEXTS:
        for line in path.read_text(encoding="utf-8").splitlines():
            if "git" not in line and ("contractive-gnn " in line or path.parent.name == "bench"):
                # a colon follows what is a variable of a style sheet
                found = re.findall(r"(?<![\w-])--[a-z][a-z-]*[a-z](?![\w-]*:)", line)
                named.update(dict.fromkeys(found, path.name))
    assert len(named) > 5
    assert {option: place for option, place in named.items() if option not in known} == {}
