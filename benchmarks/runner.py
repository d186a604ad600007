"""Turns: opponents one after the other, each in a process of its own, and every turn in a CSV as soon as it is over."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


def take_turn(module: str, *arguments: object) -> dict[str, Any]:
    """What ``python -m MODULE --worker ARGUMENTS`` prints as JSON on its last line."""
    job = [sys.executable, "-m", module, "--worker", *map(str, arguments)]
    answer = subprocess.run(job, capture_output=True, text=True, check=False)
    if answer.returncode:
        said = answer.stderr.strip().splitlines() or [f"it ended with {answer.returncode}"]
        raise SystemExit(f"error: the turn of {' '.join(map(str, arguments))} failed: {said[-1]}")
    return json.loads(answer.stdout.splitlines()[-1])


def write_turns(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """After every turn, so that an interrupted benchmark keeps what it has."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
