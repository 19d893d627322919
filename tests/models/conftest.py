"""A hub on loopback."""

from loopback_hub import hub, hub_at

__all__ = ["hub", "hub_at"]
