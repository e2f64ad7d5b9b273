"""What runs the network: execution providers and sessions of ONNX Runtime and OpenVINO."""
