"""Looking for photos that should not be learned from."""
