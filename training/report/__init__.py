"""An evaluation for people: one HTML file."""
