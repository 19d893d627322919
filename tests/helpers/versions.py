"""Print versions of the direct dependencies in pyproject.toml, as pip requirements.

python tests/helpers/versions.py lowest  # the lower bounds, which `make test-lowest` installs
python tests/helpers/versions.py pinned  # what this environment has, for constraints.txt (`make upgrade`)
"""

import sys
import tomllib
from collections.abc import Callable, Iterable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

PYPROJECT = Path(__file__).parents[2] / "pyproject.toml"
UNTESTED = {"bench", "wandb"}  # extras that no test imports
WITH_TORCH = "torchvision"  # open_clip_torch brings it, and a torchvision fits one torch only


def requirements(pyproject: Path = PYPROJECT) -> list[Requirement]:
    """Return the package's own dependencies and those of every tested extra; an extra of extras adds none."""
    project = tomllib.loads(pyproject.read_text(encoding="utf-8"))["project"]
    extras = [lines for name, lines in project["optional-dependencies"].items() if name not in UNTESTED]
    lines = [line for lines in (project["dependencies"], *extras) for line in lines]
    return [each for each in map(Requirement, lines) if each.name != project.get("name")]


def lowest(wanted: Iterable[Requirement]) -> dict[str, str]:
    """Return the lower bound of each package, the highest where it is named more than once."""
    bounds: dict[str, Version] = {}
    for requirement in wanted:
        name = canonicalize_name(requirement.name)
        bounds[name] = max(_bound(requirement), bounds.get(name, Version("0")))
    return {name: str(bound) for name, bound in bounds.items()}


def _bound(requirement: Requirement) -> Version:
    bounds = [Version(each.version) for each in requirement.specifier if each.operator == ">="]
    if not bounds:
        raise ValueError(f"{requirement} in pyproject.toml has no lower bound: write {requirement.name}>=VERSION")
    return bounds[0]


def pinned(wanted: Iterable[Requirement]) -> dict[str, str]:
    """Return the installed version of each package that is installed, without a build's local part such as +cpu."""
    found = {}
    for name in {*(canonicalize_name(each.name) for each in wanted), WITH_TORCH}:
        try:
            found[name] = Version(version(name)).public
        except PackageNotFoundError:
            continue
    return found


COMMANDS: dict[str, Callable[[Iterable[Requirement]], dict[str, str]]] = {"lowest": lowest, "pinned": pinned}

if __name__ == "__main__":
    if len(sys.argv) != 2 or sys.argv[1] not in COMMANDS:
        sys.exit(__doc__)
    print("\n".join(f"{name}=={number}" for name, number in sorted(COMMANDS[sys.argv[1]](requirements()).items())))
