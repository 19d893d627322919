"""Faults of label and template files: what their texts show, and what a model makes of them."""
