"""``python -m jaxephys`` reports versions, devices and their speed."""

import os

from tests.experiments.command import run


def test_doctor_lists_versions_and_speed(tmp_path):
    done = run("jaxephys", cwd=tmp_path)
    assert done.returncode == 0
    for word in ("jaxephys", "orbax-checkpoint", "GFLOP/s"):
        assert word in done.stdout


def test_doctor_reports_an_unused_gpu(tmp_path):
    fake = tmp_path / "nvidia-smi"
    fake.write_text("#!/bin/sh\necho NVIDIA H200\n")
    fake.chmod(0o755)
    done = run("jaxephys", cwd=tmp_path, PATH=f"{tmp_path}:{os.environ['PATH']}", JAX_PLATFORMS="cpu")
    assert done.returncode == 1
    assert "!!! An NVIDIA GPU is here (NVIDIA H200), but JAX runs on the CPU." in done.stdout
