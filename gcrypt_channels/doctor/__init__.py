"""The probes of ``manage.py gcrypt_doctor``.

Each looks at one side of a live configuration and yields its findings; none changes anything that
outlives it.
"""

from __future__ import annotations

from collections.abc import Iterator

from .configuration import examine_configuration
from .findings import Finding, Level
from .routing import examine_routing
from .servers import examine_servers
from .services import examine_services

__all__ = ["Finding", "Level", "examine"]


def examine() -> Iterator[Finding]:
    """Run every probe, each finding as soon as it is made."""
    yield from examine_configuration()
    yield from examine_services()
    yield from examine_routing()
    yield from examine_servers()
