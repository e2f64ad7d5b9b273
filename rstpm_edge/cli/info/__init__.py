"""`rstpm-edge info`: what a model file says about itself, and what this machine offers."""
