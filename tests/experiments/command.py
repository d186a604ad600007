"""Run the commands of this project as a user does, in a process of their own."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
SMALL = ("smoke", "--cells", "400")


def start(*arguments: str, cwd: Path, largest_file: int | None = None, **environment: str) -> subprocess.Popen:
    """``python -m arguments`` in ``cwd``, with its output kept; ``largest_file`` bounds what it can write, as a full disk does."""
    env = {**os.environ, "PYTHONPATH": str(ROOT), "MPLBACKEND": "Agg", **environment}
    command = [sys.executable, "-m", *arguments]
    if largest_file is not None:
        command = ["bash", "-c", f'ulimit -f {largest_file // 1024}; exec "$@"', "bash", *command]
    return subprocess.Popen(command, cwd=cwd, env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def run(*arguments: str, cwd: Path, largest_file: int | None = None, **environment: str) -> subprocess.CompletedProcess:
    process = start(*arguments, cwd=cwd, largest_file=largest_file, **environment)
    out, err = process.communicate(timeout=240)
    return subprocess.CompletedProcess(arguments, process.returncode, out, err)


def only_run(folder: Path) -> Path:
    """The one run folder under ``folder``."""
    (found,) = folder.glob("runs/*/*")
    return found
