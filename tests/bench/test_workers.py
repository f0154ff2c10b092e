"""Jobs in other processes: run from a script, since a spawned process must be able to import what it is to do."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from contractive_gnn.bench.workers import run_jobs

SCRIPT = """
import dataclasses, json, os, sys, time

@dataclasses.dataclass(frozen=True)
class Job:
    name: str
    seconds: float = 0.0

    def run(self):
        if self.name == "threads":
            yield [os.environ.get(f"{library}_NUM_THREADS") for library in ("OMP", "OPENBLAS", "MKL")]
            return
        yield [self.name, "began", time.time(), os.getpid()]
        if self.name.startswith("dies"):
            time.sleep(0.3)  # the message is out
            os._exit(3)
        time.sleep(self.seconds)
        yield [self.name, "ended", time.time(), os.getpid()]

    def rest(self):
        if self.name == "dies after its one message":
            return self
        return dataclasses.replace(self, name=f"rest of {self.name}")

    def died(self, reason):
        return [self.name, reason, time.time(), 0]

if __name__ == "__main__":
    from contractive_gnn.bench.workers import run_jobs
    stages = [[Job("a", 0.5), Job("dies")], [Job("b"), Job("c")]]
    if sys.argv[1] == "once":
        stages = [[Job("dies after its one message"), Job("b")]]
    if sys.argv[1] == "forever":
        stages = [[Job("slow", 600), Job("also slow", 600)]]
    if sys.argv[1] == "threads":
        stages = [[Job("threads"), Job("threads")]]
    for message in run_jobs(stages, processes=2):
        print(json.dumps(message), flush=True)
"""


class Counting:
    """A job that counts as far as it is told."""

    def __init__(self, last: int) -> None:
        self.last = last

    def run(self) -> Iterator[int]:
        yield from range(self.last)

    def rest(self) -> Counting:
        return self

    def died(self, reason: str) -> int:
        return -1


def test_one_process_runs_the_jobs_here_and_in_order() -> None:
    assert list(run_jobs([[Counting(2), Counting(1)], [], [Counting(3)]], processes=1)) == [0, 1, 0, 0, 1, 2]
    assert list(run_jobs([], processes=4)) == []


def test_no_process_is_an_error() -> None:
    with pytest.raises(ValueError, match="at least 1, got 0"):
        list(run_jobs([[Counting(1)]], processes=0))


def test_a_stage_waits_for_the_one_before_and_a_dead_process_costs_what_its_job_had_left(tmp_path: Path) -> None:
    script = tmp_path / "jobs.py"
    script.write_text(SCRIPT)
    done = subprocess.run([sys.executable, script, "all"], capture_output=True, text=True, check=True, timeout=600)
    messages = [json.loads(line) for line in done.stdout.splitlines()]
    assert sorted((name, what) for name, what, *_ in messages if name in "abc") == [
        (name, what) for name in "abc" for what in ("began", "ended")
    ]
    (began,) = [what for name, what, *_ in messages if name == "dies"]
    assert began == "began"
    (reason,) = [what for name, what, *_ in messages if name == "rest of dies"]
    assert "exit code 3" in reason
    when = {(name, what): moment for name, what, moment, _ in messages}
    assert min(when["b", "began"], when["c", "began"]) >= when["a", "ended"]
    assert all(process != os.getpid() for *_, process in messages)


def test_a_job_of_one_message_is_done_when_that_has_come(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(SCRIPT)
    done = subprocess.run(
        [sys.executable, "script.py", "once"], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    told = sorted(json.loads(line)[:2] for line in done.stdout.splitlines())
    assert told == [["b", "began"], ["b", "ended"], ["dies after its one message", "began"]]


def test_a_worker_has_one_thread_for_every_numerical_library(tmp_path: Path) -> None:
    script = tmp_path / "jobs.py"
    script.write_text(SCRIPT)
    given = {name: value for name, value in os.environ.items() if not name.endswith("_NUM_THREADS")}
    command = [sys.executable, script, "threads"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=600, env=given)
    assert [json.loads(line) for line in done.stdout.splitlines()] == [["1", "1", "1"]] * 2


def test_no_worker_outlives_a_parent_that_is_killed(tmp_path: Path) -> None:
    script = tmp_path / "jobs.py"
    script.write_text(SCRIPT)
    with subprocess.Popen([sys.executable, script, "forever"], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        workers = [json.loads(parent.stdout.readline())[3] for _ in range(2)]
        parent.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + 300
    while any(alive(process) for process in workers):
        assert time.monotonic() < deadline, "a worker goes on without its parent"
        time.sleep(0.05)


def alive(process: int) -> bool:
    """Whether it runs; a zombie, which nobody has waited for, does not."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
