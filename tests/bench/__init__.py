"""Benchmarks: what `./run bench` prints. Figures and counts only; nothing here passes or fails."""
