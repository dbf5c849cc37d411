"""The probes of ``manage.py gcrypt_doctor``.

Each one examines one part of the running configuration, and yields messages of Django's check
framework: ``obj`` names what was examined, ``INFO`` says that it works, ``WARNING`` that it works
but not as one may think, and ``ERROR`` that encrypted WebSockets do not work. A probe deletes what
it has written.
"""

from __future__ import annotations

from collections.abc import Iterator

from django.core.checks import CheckMessage

from .configuration import examine_configuration
from .probe import examine_process
from .routing import examine_routing
from .services import examine_services

__all__ = ["examine"]


def examine(*, probe: str | None = None) -> Iterator[CheckMessage]:
    """Run every probe, and yield each message as soon as it is known.

    ``probe`` is the URL of a running process's health view, which is asked as well.
    """
    yield from examine_configuration()
    yield from examine_services()
    yield from examine_routing()
    if probe is not None:
        yield from examine_process(probe)
