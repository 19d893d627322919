"""A hub of data sets on loopback."""

from loopback_data_hub import data_hub, data_hub_at

__all__ = ["data_hub", "data_hub_at"]
