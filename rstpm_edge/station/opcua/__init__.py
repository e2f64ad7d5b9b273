"""The station as an OPC UA server, for PLCs and control rooms (the extra `opcua`)."""
