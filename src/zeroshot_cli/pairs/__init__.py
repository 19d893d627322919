"""Rows of an image and its texts, from tables and tars: what training learns from, and evaluation scores."""
