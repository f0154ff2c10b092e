"""The experiments are listed, and every command that the docs show names a script that is there."""

import re
import runpy
import sys
from pathlib import Path

import pytest


def test_every_experiment_is_in_the_list(repository: Path) -> None:
    folder = repository / "docs" / "experiments"
    listed = set(re.findall(r"\[(\w+\.py)\]", (folder / "README.md").read_text(encoding="utf-8")))
    assert listed == {path.name for path in folder.glob("*.py")}


def test_every_command_names_a_script(repository: Path) -> None:
    pages = [repository / "README.md", *(repository / "docs").rglob("*.md"), *(repository / "docs").rglob("*.py")]
    pages += (repository / "examples").glob("*.py")
    shown = 0
    for page in pages:
        for script in re.findall(
            r"python ((?:docs/experiments|examples|tests)/\w+\.py)", page.read_text(encoding="utf-8")
        ):
            assert (repository / script).is_file(), f"{page.name} shows {script}"
            shown += 1
    assert shown > 15


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("denoising.py train", "train needs --scratch, the folder of the small networks"),
        ("denoising.py measure --sigmas 5", "measure needs --scratch"),
        ("repeated_denoising.py picture --out none.jsonl", "none.jsonl has no lines: run `measure` first"),
        ("cross_entropy_attacks.py table --out none.jsonl", "there is no page docs/images.md: run this from the root"),
        ("cifar10.py attack switching --scratch none", "there is no none/switching-0.pt: run the stage train first"),
    ],
)
def test_a_stage_without_what_it_needs_says_so(
    repository: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    command: str,
    words: str,
) -> None:
    script, *arguments = command.split()
    if script == "cifar10.py":
        for package in ("deel.torchlip", "orthogonium"):
            pytest.importorskip(package)
    folder = repository / "docs" / "experiments"
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [script, *arguments])
    before = set(sys.modules)
    try:
        with pytest.raises(SystemExit) as error:
            runpy.run_path(str(folder / script), run_name="__main__")
    finally:
        for name in set(sys.modules) - before:  # scripts import each other by their bare names
            if getattr(sys.modules[name], "__file__", None) and Path(str(sys.modules[name].__file__)).parent == folder:
                del sys.modules[name]
    assert words in f"{error.value} {capsys.readouterr().err}"
    assert not list(tmp_path.rglob("*.png"))
