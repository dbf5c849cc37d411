"""Faults of every part of a deployment, with each message accounted for; see ``rig.py``."""
