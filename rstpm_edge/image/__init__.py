"""From a file or an array to the model's input: the one path that training and runtime share."""
