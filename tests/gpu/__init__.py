"""What needs a real GPU: run by `make test-gpu`, and collected only where it is asked for by name."""
