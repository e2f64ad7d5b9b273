"""What `infer` and `serve` share: options, how images are judged, where they come from, what follows a verdict."""
