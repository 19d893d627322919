"""A browser for the tests of pages."""

from chromium import browser

__all__ = ["browser"]
