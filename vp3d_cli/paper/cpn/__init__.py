"""Training the Cascaded Pyramid Network."""
