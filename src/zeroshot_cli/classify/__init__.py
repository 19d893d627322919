"""From embeddings to predictions."""
