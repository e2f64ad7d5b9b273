"""The threshold moved by good photos that a person has confirmed: no training, no torch."""
