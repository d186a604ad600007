"""Record what every locked distribution requires, so that the lock can be tested for Python versions that are not installed.

Run it in an environment that was installed from ``requirements.lock``; it adds that environment's distributions to
``lock_metadata.json`` and removes those that are no longer locked. ``make lock`` runs it once for each supported Python.
"""

import json
import sys
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

LOCK = Path(__file__).parents[1] / "requirements.lock"
METADATA = Path(__file__).with_suffix(".json")


def read_lock(path: Path = LOCK) -> list[Requirement]:
    """Return the pinned requirements of a lock, without their hashes."""
    lines = path.read_text().splitlines()
    return [Requirement(line.rstrip(" \\")) for line in lines if line and not line.startswith((" ", "#"))]


def pinned_version(requirement: Requirement) -> str:
    """Return ``1.2`` of ``name==1.2``."""
    (specifier,) = requirement.specifier
    return specifier.version


def key_of(requirement: Requirement) -> str:
    """Return the key of a pinned distribution in the metadata file, ``name==version``."""
    return f"{canonicalize_name(requirement.name)}=={pinned_version(requirement)}"


def main() -> None:
    """Update the metadata file from the distributions that are installed here."""
    locked = {key_of(requirement): requirement for requirement in read_lock()}
    known = json.loads(METADATA.read_text()) if METADATA.exists() else {}
    for key, requirement in locked.items():
        try:
            installed = distribution(requirement.name)
        except PackageNotFoundError:
            continue
        if installed.version == pinned_version(requirement):
            known[key] = sorted(installed.requires or [])
    lines = [f"{json.dumps(key)}: {json.dumps(known[key])}" for key in sorted(known) if key in locked]
    METADATA.write_text("{\n" + ",\n".join(lines) + "\n}\n")
    missing = sorted(set(locked) - set(known))
    print(
        f"{len(lines)} of {len(locked)} locked distributions recorded; not installed here: {', '.join(missing) or 'none'}"
    )


if __name__ == "__main__":
    sys.exit(main())
