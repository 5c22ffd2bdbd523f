"""Synthetic training windows: motion capture, random cameras, simulated detector noise."""
