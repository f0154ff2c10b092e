"""Run the property tests with fresh seeds until the time is up or one of them fails.

``python tests/fresh.py --minutes 30 [-- arguments of pytest]``; docs/testing.md says more.
"""

from __future__ import annotations

import argparse
import re
import secrets
import shlex
import subprocess
import sys
import time


def main(arguments: list[str] | None = None) -> int:
    """Run rounds, each with a seed of its own; 0 if no round failed, else what pytest returned."""
    parser = argparse.ArgumentParser(description="Run the property tests with fresh seeds until one fails.")
    parser.add_argument("--minutes", type=float, default=30.0, help="no round starts later than this (default: 30)")
    parser.add_argument("--seed", type=int, help="of the first round; the next ones count up (default: a random one)")
    parser.add_argument("pytest", nargs="*", help="passed on to pytest: files, -k expression, … (after --)")
    given = parser.parse_args(arguments)
    if not given.minutes >= 0:
        parser.error(f"--minutes must be at least 0, got {given.minutes:g}")
    first = secrets.randbits(31) if given.seed is None else given.seed
    start = time.monotonic()
    rounds = 0
    while rounds == 0 or time.monotonic() - start < 60 * given.minutes:
        seed = first + rounds
        print(f"round {rounds + 1}, seed {seed}", flush=True)
        command = [sys.executable, "-m", "pytest", "--hypothesis-profile=fresh", f"--hypothesis-seed={seed}"]
        once = [*command, "-m", "hypothesis", "-x", "-q", "-p", "no:cacheprovider", *given.pytest]
        done = subprocess.run(once, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
        if done.returncode:
            print(done.stdout)
            failed = re.search(r"^(?:FAILED|ERROR) (\S+?::[^\[\s]*(?:\[.*?\](?= - |$))?)", done.stdout, re.MULTILINE)
            if failed:
                print("to reproduce it:", shlex.join(["python", *command[1:], failed[1]]))
            return done.returncode
        rounds += 1
    print(f"{rounds} round{'s' if rounds > 1 else ''} without a failure")
    return 0


if __name__ == "__main__":
    sys.exit(main())
