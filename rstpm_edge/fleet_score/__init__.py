"""Scoring an archive of photos on many processors or machines, by Ray Data."""
