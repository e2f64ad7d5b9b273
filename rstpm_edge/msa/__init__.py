"""Measurement-system analysis: repeated photos of reference parts, and what they say of the station."""
