"""Load a model: its name, weights, device and precision."""
