"""Two processes of one cluster train one grid together and write one result."""

import json
import os
import socket

import jaxephys
from tests.experiments.command import SMALL, only_run, run, start


def free_address() -> str:
    """A free port below those that systems give to connections: one of those could be taken before the first host uses it."""
    for port in range(20_000 + os.getpid() % 10_000, 32_000):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)):
                return f"127.0.0.1:{port}"
    raise RuntimeError("no port is free")


def test_two_processes_write_the_result_of_one(tmp_path):
    address = free_address()
    together, alone = tmp_path / "together", tmp_path / "alone"
    together.mkdir()
    alone.mkdir()
    cluster = {"JAX_COORDINATOR_ADDRESS": address, "JAX_NUM_PROCESSES": "2"}
    hosts = [
        start("experiments.quickstart", *SMALL, "--distributed", cwd=together, JAX_PROCESS_ID=str(index), **cluster)
        for index in range(2)
    ]
    outputs = [host.communicate(timeout=240) for host in hosts]
    assert [host.returncode for host in hosts] == [0, 0], outputs
    assert run("experiments.quickstart", *SMALL, cwd=alone).returncode == 0

    ours, theirs = only_run(together), only_run(alone)
    assert (ours / "scores.csv").read_bytes() == (theirs / "scores.csv").read_bytes()
    assert (ours / "history.csv").read_bytes() == (theirs / "history.csv").read_bytes()
    assert json.loads((ours / "manifest.json").read_text())["hosts"] == 2
    assert sorted(path.name for path in (ours / "checkpoints").iterdir()) == ["estimator", "host0", "host1"]
    for path in (ours, theirs):
        assert (
            jaxephys.load(path, run=5).training_
            == jaxephys.load(theirs, run={"seed": 1, "variant": "attention+smote"}).training_
        )
    assert "Test scores" in outputs[0][0]
    assert "Test scores" not in outputs[1][0], "the second host has nothing to show"


def test_incomplete_cluster_address_is_reported_in_one_sentence(tmp_path):
    done = run("experiments.quickstart", "smoke", "--distributed", cwd=tmp_path, JAX_NUM_PROCESSES="2")
    assert done.returncode == 2
    assert "JAX_PROCESS_ID" in done.stderr.splitlines()[-1]
