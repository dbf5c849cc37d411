"""Connections to other people's libraries, each needing an extra of the package."""
