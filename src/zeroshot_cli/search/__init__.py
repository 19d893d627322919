"""Look at all embeddings of many images together: the nearest to a query, and near-copies of each other."""
