"""Formats that Pillow does not read, or not right, and those for which it needs a package of its own."""
