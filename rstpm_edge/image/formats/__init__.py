"""What is wrong with an encoded image, by format. Each module gives its `size` and its `check`: see file_checks."""
