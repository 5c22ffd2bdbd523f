"""Synthetic training windows: motion capture seen by random cameras, with simulated detector noise."""
