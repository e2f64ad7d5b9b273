"""From the network's maps to a verdict: fusion, score, regions."""
