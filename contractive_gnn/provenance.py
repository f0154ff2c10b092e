"""Which state of this code a result was made with."""

from __future__ import annotations

import subprocess
from pathlib import Path


def current_commit() -> tuple[str | None, bool]:
    """The commit of the checkout that this code is in, and whether its tracked files differ; or (None, False)."""
    folder = Path(__file__).resolve().parent

    def git(*arguments: str) -> str:
        return subprocess.run(
            ["git", "-C", str(folder), *arguments], capture_output=True, text=True, check=True, timeout=10
        ).stdout.strip()

    try:
        # Installed in an environment that lies inside someone else's checkout, that commit says nothing about us.
        git("ls-files", "--error-unmatch", "__init__.py")
        return git("rev-parse", "HEAD"), bool(git("status", "--porcelain", "--untracked-files=no"))
    except (OSError, subprocess.SubprocessError):
        return None, False
