"""Training, export and evaluation; installed as `rstpm_edge.training`, and needs the extra `[train]`."""
