"""Benchmarks: commands that measure the service beside its reference, in one run."""
