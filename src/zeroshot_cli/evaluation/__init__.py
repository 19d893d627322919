"""Evaluation: labelled images in, figures out."""
