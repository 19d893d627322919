"""Better classifiers from labelled embeddings: discriminants, cross-validation, calibration; numbers, no images."""
