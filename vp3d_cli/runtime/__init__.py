"""What runs models: devices and processes."""
