"""Image files: found, decoded, preprocessed and augmented."""
