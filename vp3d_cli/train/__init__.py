"""Training lifters: the data engine, losses and the loop. Start with loop.py."""
