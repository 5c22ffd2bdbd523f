"""Cascaded Pyramid Network (Chen et al. 2018)."""
