"""What a station judged, for months: verdicts, pictures, and what people said of them."""
