"""Sealed messages on a channel layer."""
