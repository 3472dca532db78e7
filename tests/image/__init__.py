"""The image: built from its recipe and run. It takes minutes, so it is no part of `make test`."""
