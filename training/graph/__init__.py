"""The ONNX graph: writing, running, and what other runtimes take."""
