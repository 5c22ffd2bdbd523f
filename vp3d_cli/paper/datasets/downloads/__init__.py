"""Readers of the downloads of Human3.6M and HumanEva-I, one file per kind of download."""
