"""The station: what an operator sees, and what a plant's systems talk to. One process on one port."""
