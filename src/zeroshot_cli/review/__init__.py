"""Correct the answers of a run by hand, in a page on this machine."""
