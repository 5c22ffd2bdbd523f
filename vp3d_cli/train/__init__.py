"""Training of lifters; :mod:`vp3d_cli.train.loop` is read first."""
