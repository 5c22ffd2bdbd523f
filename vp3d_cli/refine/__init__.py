"""After lifting: root trajectory, reprojection, bone lengths, gravity, floor, contacts. Start with world.py."""
