"""Benchmarks: each measures a ratio against a named peer in the same run (docs/benchmarks.md)."""
