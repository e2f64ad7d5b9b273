"""A training run, from photos to calibrated maps."""
