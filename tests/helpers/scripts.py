"""A script of a recipe, an example or a test as a module."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).parents[2]


def script_module(script: str) -> ModuleType:
    """The module of a script, by its path below the repository."""
    path = ROOT / script
    name = f"{path.parent.name}_{path.stem}"  # small/prepare.py imports tiny/prepare.py as `prepare`
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    sys.path.insert(0, str(path.parent))  # as when it is run
    try:
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(path.parent))
    return module
