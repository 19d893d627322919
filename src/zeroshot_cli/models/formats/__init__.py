"""Every layout that weights come in on disk."""
