"""`rstpm-edge fleet train`."""
