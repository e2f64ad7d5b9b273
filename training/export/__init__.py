"""From a run to a model file that has checked itself."""
