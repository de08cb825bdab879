"""The pictures in the documentation, taken of the running product: `make pictures`."""
