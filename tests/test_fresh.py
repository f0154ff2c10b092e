"""The suite draws fixed examples; tests/fresh.py draws others, and says how to draw a failure again."""

import random
import runpy
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st


def test_rounds_count_seeds_up_until_one_fails(
    repository: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    test, commands = "tests/test_a.py::test_b[c - d's]", []

    def answer(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        commands.append(command)
        failed = len(commands) == 3
        return subprocess.CompletedProcess(command, int(failed), f"FAILED {test} - AssertionError: no [e]\n" * failed)

    monkeypatch.setattr(subprocess, "run", answer)
    main = runpy.run_path(str(repository / "tests" / "fresh.py"))["main"]
    assert main(["--seed", "5", "--minutes", "1", "--", "-k", "flips"]) == 1
    assert ["--hypothesis-seed=7" in command for command in commands] == [False, False, True]
    assert all(command[-2:] == ["-k", "flips"] for command in commands)
    *_, last = capsys.readouterr().out.splitlines()
    prefix, _, line = last.partition("python ")
    assert prefix == "to reproduce it: "
    assert shlex.split(line) == ["-m", "pytest", "--hypothesis-profile=fresh", "--hypothesis-seed=7", test]

    commands.clear()
    assert main(["--minutes", "0"]) == 0
    assert len(commands) == 1
    assert "1 round without a failure" in capsys.readouterr().out


def test_a_property_that_fails_is_found(repository: Path, tmp_path: Path) -> None:
    shutil.copy(repository / "tests" / "conftest.py", tmp_path)
    (tmp_path / "test_property.py").write_text(
        "from hypothesis import given, strategies as st\n"
        "@given(st.integers(0, 2**31))\n"
        "def test_property(n):\n    assert n < 2**30\n"
        "def test_no_property():\n    raise AssertionError\n"
    )
    command = [sys.executable, str(repository / "tests" / "fresh.py"), "--minutes", "0", "--seed", "3", "--", "."]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 1, done.stdout + done.stderr
    assert done.stdout.endswith("--hypothesis-seed=3 test_property.py::test_property\n")


def test_the_suite_draws_the_same_examples_whatever_was_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[int] = []

    @settings(max_examples=100)
    @given(st.integers(0, 2**31))
    def draw(n: int) -> None:
        drawn.append(n)

    draw()
    (tmp_path / "numbers_of_its_own.py").write_text(f"A = {list(range(1000, 3000, 7))}\n")
    monkeypatch.syspath_prepend(tmp_path)
    __import__("numbers_of_its_own")
    draw()
    assert drawn[: len(drawn) // 2] == drawn[len(drawn) // 2 :]


@pytest.mark.parametrize("leave", [True, False])
def test_every_test_starts_from_the_same_random_state(leave: bool) -> None:
    first = torch.rand(()), np.random.rand(), random.random()  # noqa: NPY002
    torch.manual_seed(0)
    np.random.seed(0)  # noqa: NPY002
    random.seed(0)
    assert first == (torch.rand(()), np.random.rand(), random.random())  # noqa: NPY002
    if leave:  # what the next one must not notice
        torch.rand(3)
