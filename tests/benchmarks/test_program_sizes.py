"""The training programs of the real systems stay small, are compiled once, and hold nothing on a GPU or TPU that they should not."""

import jax
import numpy as np
import pytest
from sklearn.model_selection import cross_val_score

from benchmarks import cases, compiled
from benchmarks.runner import run_worker
from jaxephys.engine import compile_cache
from jaxephys.engine.operations import count_operations
from jaxephys.engine.task import Backend
from jaxephys.patchseq.estimator import PatchSeqClassifier

# The operations of a chunk as JAX traces it, which compile time follows. A system may grow a little; more needs a reason.
LARGEST = {
    "patchseq": 1_800,
    "hippie": 14_500,
    "hippie-ours": 14_500,
    "spikes-published": 1_900,
    "spikes-population": 4_000,
}


@pytest.mark.parametrize("system", LARGEST)
def test_training_program_has_few_operations(system):
    problem = cases.build(system, small=True)
    counted = count_operations(cases.trace_chunk(problem, Backend("cpu", "map", "float32"))).equations
    assert LARGEST[system] / 2 < counted <= LARGEST[system], f"{system}: {counted:,} operations"


def test_folds_of_a_cross_validation_share_what_is_compiled(monkeypatch):
    """Five unequal folds share one training program, one that draws initial variables, and two that predict."""
    monkeypatch.setattr(compile_cache, "_kept", type(compile_cache._kept)())
    lowered = []

    def count(event: str, seconds: float, **options: object) -> None:
        if event.endswith("jaxpr_to_mlir_module_duration") and options.get("fun_name") in ("program", "jit(program)"):
            lowered.append(seconds)  # `devices.map_over_runs` makes all long programs, with this name

    jax.monitoring.register_event_duration_secs_listener(count)
    try:
        rng = np.random.default_rng(0)
        x, y = rng.normal(size=(207, 6)).astype(np.float32), np.resize(["Sst", "Vip"], 207)
        model = PatchSeqClassifier(token=4, hidden=4, seeds=1, max_epochs=1, families={"a": 2, "b": 4}, progress=False)
        scores = cross_val_score(model, x, y, cv=5)
    finally:
        jax.monitoring.unregister_event_duration_listener(count)
    titles = [key[0] for key in compile_cache._kept]
    assert len(scores) == 5 and titles.count("training") == 1
    assert len(lowered) == 4, "initialization, training, prediction of validation rows and of test rows"


@pytest.mark.lab
@pytest.mark.parametrize("target", ["h100", "tpu-v5e"])
@pytest.mark.parametrize("system", LARGEST)
def test_step_on_an_accelerator_copies_no_data_and_exchanges_nothing(system, target):
    if compiled.missing_compiler(target):
        pytest.skip(f"the compiler for {target} is not installed")
    case = {"system": system, "target": target, "runs": 3, "n_devices": 2, "small": True}
    row = run_worker("benchmarks.compiled", case, compiled.ENVIRONMENT[target])
    assert row["data_copies_step"] == 0, "no copy of the data for each run"
    assert row["collectives"] == 0, "no exchange between devices"
    assert row["host_calls"] == 0, "no call of the host"
