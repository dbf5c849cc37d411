"""The views of `drain_site`."""

from __future__ import annotations

import asyncio

from asgiref.sync import async_to_sync
from django.http import HttpRequest, HttpResponse
from django.urls import path


def stuck(request: HttpRequest) -> HttpResponse:
    """Await what does not come, in the thread of synchronous code."""

    async def wait() -> None:
        print("stuck")
        await asyncio.Event().wait()

    async_to_sync(wait)()
    raise AssertionError("it has come")


urlpatterns = [path("stuck/", stuck)]
