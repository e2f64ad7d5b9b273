"""A folder of models: which versions each product has, which one is live, and who said so and when."""
