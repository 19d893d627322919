"""The hub on loopback that tests of weights use."""

import importlib.util
from pathlib import Path

_path = Path(__file__).parents[1] / "weights" / "hub.py"
_spec = importlib.util.spec_from_file_location("loopback_hub_of_commands", _path)
_loopback = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_loopback)
hub, hub_at = _loopback.hub, _loopback.hub_at
