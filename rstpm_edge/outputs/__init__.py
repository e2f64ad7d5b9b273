"""Where verdicts go: pictures, map files, JSON, a command, an MQTT broker."""
