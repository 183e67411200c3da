"""Benchmarks: what `./run bench` prints. They measure and never fail a build; a figure that misses its limit says so."""
