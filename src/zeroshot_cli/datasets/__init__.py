"""Labelled images, and data sets with a name."""
