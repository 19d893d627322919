"""Fixtures for evaluation: a hub of data sets on loopback."""

import importlib.util
import sys
from pathlib import Path

_spec = importlib.util.spec_from_file_location("data_hub", Path(__file__).with_name("data_hub.py"))
_module = importlib.util.module_from_spec(_spec)
sys.modules[_spec.name] = _module  # dataclasses look their module up
_spec.loader.exec_module(_module)
data_hub, data_hub_at = _module.data_hub, _module.data_hub_at
