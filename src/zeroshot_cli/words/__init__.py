"""Labels and templates: what the user writes, and its faults."""
