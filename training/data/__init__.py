"""Photos to learn from and to test on, their copies, and what is painted into them."""
