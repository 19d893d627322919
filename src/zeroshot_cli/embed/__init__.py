"""Images and texts to embeddings, and the caches of them."""
