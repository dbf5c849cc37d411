"""The probes of ``manage.py gcrypt_doctor``.

Each one examines one part of the running configuration, and yields messages of Django's check
framework: ``obj`` names what was examined, ``INFO`` says that it works, ``WARNING`` that it works
but not as one may think, and ``ERROR`` that encrypted WebSockets do not work. A probe deletes what
it has written.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

from django.core.checks import CheckMessage, Error

from .configuration import examine_configuration
from .pages import examine_pages
from .probe import examine_process
from .reports import describe
from .routing import examine_routing
from .services import examine_services

__all__ = ["examine"]


def examine(*, probe: str | None = None) -> Iterator[CheckMessage]:
    """Run every probe, and yield each message as soon as it is known.

    ``probe`` is the URL of a running process's health view, which is asked as well.
    """
    probes: dict[str, Callable[[], Iterator[CheckMessage]]] = {
        "configuration": examine_configuration,
        "services": examine_services,
        "routing": examine_routing,
        "pages": examine_pages,
    }
    if probe is not None:
        probes["process"] = partial(examine_process, probe)
    for subject, run in probes.items():
        try:
            yield from run()
        except Exception as error:  # noqa: BLE001 - the settings may name any code
            yield Error(
                f"This could not be examined: {describe(error)}",
                hint="Correct what it names, and run the doctor again.",
                obj=subject,
            )
