"""Closes connections when their session or user ends."""
