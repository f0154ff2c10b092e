"""The experiments are listed, and every command that the docs show names a script that is there."""

import re
from pathlib import Path


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
