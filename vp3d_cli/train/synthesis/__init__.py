"""Synthetic training windows: motion capture seen by random cameras, with a detector's noise."""
