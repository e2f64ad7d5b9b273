"""`rstpm-edge registry`: versions of models, in a folder that people and stations share."""
