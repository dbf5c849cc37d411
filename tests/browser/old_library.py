"""The demo on a server whose `cryptography` is too old for ML-KEM-768."""

from __future__ import annotations

import sys

# To import it is an ImportError from here on.
sys.modules["cryptography.hazmat.primitives.asymmetric.mlkem"] = None  # type: ignore[assignment]

from demo_project.asgi import application  # noqa: E402 - behind the above

__all__ = ["application"]
