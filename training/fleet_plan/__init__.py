"""Many products: what they cost."""
