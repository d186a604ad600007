"""A run that is killed repeatedly and resumed has the same scores as an uninterrupted one."""

import random
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.experiments.command import only_run, run, start

FAST = {"JAX_DISABLE_MOST_OPTIMIZATIONS": "0"}  # it trains longer than it compiles
GRID = ("--cells", "1200", "--seeds", "3", "--hidden", "16", "--max-epochs", "30")


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> bytes:
    folder = tmp_path_factory.mktemp("undisturbed")
    done = run("experiments.quickstart", *GRID, cwd=folder, **FAST)
    assert done.returncode == 0, done.stderr
    return (only_run(folder) / "scores.csv").read_bytes()


def kill_somewhere(process: subprocess.Popen, folder: Path, rng: random.Random, *, in_a_save: bool) -> bool:
    """SIGKILL at a random moment of the training, or while a checkpoint is being written. False if the run ended first."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        saved = list(folder.glob("runs/*/*/checkpoints/host0/live/*"))
        if in_a_save and any("orbax-checkpoint-tmp" in path.name for path in saved):
            break
        if not in_a_save and saved:
            time.sleep(rng.uniform(0, 2))
            break
        time.sleep(0.002)
    if process.poll() is not None:
        return False
    process.send_signal(signal.SIGKILL)
    process.wait()
    return True


@pytest.mark.timeout(900)  # a moment within a save may take some attempts to hit
@pytest.mark.parametrize("kills", [1, pytest.param(20, marks=[pytest.mark.slow, pytest.mark.timeout(1200)])])
def test_a_killed_run_resumes_to_the_same_scores(undisturbed, tmp_path, kills):
    rng = random.Random(kills)
    done, attempt = 0, 0
    while done < kills:
        folder = tmp_path / str(attempt)
        folder.mkdir(exist_ok=True)
        again = ("--resume", str(only_run(folder))) if list(folder.glob("runs/*/*/config.json")) else GRID
        process = start("experiments.quickstart", *again, cwd=folder, **FAST)
        if kill_somewhere(process, folder, rng, in_a_save=done % 2 == 0):
            done += 1
        else:
            assert process.returncode == 0, process.communicate()[1]
            assert (only_run(folder) / "scores.csv").read_bytes() == undisturbed
            attempt += 1
    last = run("experiments.quickstart", "--resume", str(only_run(folder)), cwd=folder, **FAST)
    assert last.returncode == 0, last.stderr
    assert (only_run(folder) / "scores.csv").read_bytes() == undisturbed
