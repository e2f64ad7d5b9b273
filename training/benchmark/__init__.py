"""Training and evaluation over the categories of a data set and several seeds."""
