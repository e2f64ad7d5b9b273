"""Rendered photos of a machined part, with and without defects."""
