"""Measuring a model file on labelled images."""
