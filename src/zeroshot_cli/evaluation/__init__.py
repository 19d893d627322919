"""Evaluation: labelled or captioned images in, metrics out."""
