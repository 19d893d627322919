"""Evaluation: labelled images in, figures out. One more reader of classify's pipeline, never a second copy of it."""
