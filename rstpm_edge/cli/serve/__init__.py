"""`rstpm-edge serve`: a station with its lines, and what answers requests."""
