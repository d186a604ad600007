"""The lock satisfies itself: every requirement of every locked distribution, extras included, for each supported Python."""

import json
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

import pytest
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.lock_metadata import LOCK, METADATA, key_of, pinned_version, read_lock

PROJECT = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]
LOCKED_EXTRAS = ("dev", "docs", "hub", "prep", "tfds", "umap")  # as in the Makefile
PYTHONS = ("3.11.7", "3.12.1", "3.13.0")
PLATFORMS = {"linux": ("Linux", "x86_64"), "darwin": ("Darwin", "arm64")}

Metadata = Mapping[str, Sequence[str]]  # name==version -> requirements


def environment(python: str, platform: str) -> dict[str, str]:
    system, machine = PLATFORMS[platform]
    changed = {"python_version": python.rpartition(".")[0], "python_full_version": python, "sys_platform": platform}
    return {**default_environment(), **changed, "platform_system": system, "platform_machine": machine}


def applies(requirement: Requirement, where: Mapping[str, str], extra: str) -> bool:
    return requirement.marker is None or requirement.marker.evaluate({**where, "extra": extra})


def unsatisfied(lock: Sequence[Requirement], metadata: Metadata, where: Mapping[str, str]) -> Iterator[str]:
    """Walk the requirements from the project down, with every requested extra; yield what the lock does not satisfy."""
    pinned = {canonicalize_name(one.name): one for one in lock if applies(one, where, "")}
    roots = list(PROJECT["dependencies"])
    for extra in LOCKED_EXTRAS:
        roots += PROJECT["optional-dependencies"][extra]
    waiting = [("the project", Requirement(text)) for text in roots]
    visited: set[tuple[str, str]] = set()
    while waiting:
        parent, wanted = waiting.pop()
        if not applies(wanted, where, ""):
            continue
        name = canonicalize_name(wanted.name)
        found = pinned.get(name)
        if found is None or not wanted.specifier.contains(pinned_version(found), prereleases=True):
            yield f"{parent} requires {wanted}, the lock has {found}"
            continue
        for extra in ("", *wanted.extras):
            if (name, extra) in visited:
                continue
            visited.add((name, extra))
            children = map(Requirement, metadata[key_of(found)])
            waiting += [
                (key_of(found), Requirement(str(child).split(";")[0]))
                for child in children
                if applies(child, where, extra)
            ]


@pytest.fixture(scope="module")
def lock() -> list[Requirement]:
    return read_lock()


@pytest.fixture(scope="module")
def metadata() -> Metadata:
    return json.loads(METADATA.read_text())


@pytest.mark.parametrize("platform", PLATFORMS)
@pytest.mark.parametrize("python", PYTHONS)
def test_lock_satisfies_every_requirement(lock, metadata, python, platform):
    assert list(unsatisfied(lock, metadata, environment(python, platform))) == []


def test_missing_requirement_of_an_extra_is_found(lock, metadata):
    without = [one for one in lock if one.name != "email-validator"]
    found = list(unsatisfied(without, metadata, environment("3.11.7", "linux")))
    assert len(found) == 1 and "email-validator" in found[0], "dandischema requires pydantic[email]"


def test_too_old_version_is_found(lock, metadata):
    older = [Requirement("pydantic==1.10") if one.name == "pydantic" else one for one in lock]
    assert any("pydantic" in line for line in unsatisfied(older, metadata, environment("3.11.7", "linux")))


def test_metadata_is_that_of_the_installed_distributions(lock, metadata):
    checked = 0
    for one in lock:
        try:
            same = version(one.name) == pinned_version(one)
        except PackageNotFoundError:
            continue
        if same:
            assert sorted(requires(one.name) or []) == metadata[key_of(one)], f"run tests/lock_metadata.py: {one.name}"
            checked += 1
    assert checked > 20


def test_make_locks_the_extras_that_are_tested():
    makefile = (Path(__file__).parents[1] / "Makefile").read_text()
    assert [f"--extra {name}" in makefile for name in LOCKED_EXTRAS] == [True] * len(LOCKED_EXTRAS)


def test_lock_names_no_address():
    text = LOCK.read_text()
    assert "--hash=sha256:" in text
    assert "://" not in text + METADATA.read_text()
