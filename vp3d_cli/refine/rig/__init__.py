"""Fit a rig to a person's motion: constant bone lengths, joint rotations. Start with fit.py."""

from vp3d_cli.refine.rig.fit import add_rigs as add_rigs
from vp3d_cli.refine.rig.fit import fit_rig as fit_rig
