"""Teachers, students, and the maps between them, in PyTorch."""
