"""What `make` runs: set-up, proof, campaign, release check."""

from __future__ import annotations
