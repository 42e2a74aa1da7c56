"""Speed and memory of a coordinator, measured from outside: `make bench` (README.md says how to read it)."""
