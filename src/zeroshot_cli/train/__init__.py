"""Training: pairs → batches → steps → checkpoints and a model folder."""
