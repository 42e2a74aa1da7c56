"""The network's parameters: what governance may change and all code reads."""
