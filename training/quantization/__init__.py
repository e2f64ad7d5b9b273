"""Graphs in fewer bits: INT8, FP16, and whether they may be delivered."""
