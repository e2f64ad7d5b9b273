"""A model file: what it says about itself, and a look at its bytes before a runtime gets them."""
