"""The page's requests: a sandbox of its own, the stream of observations, and the attacks."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator

from django.contrib.auth import alogin
from django.core.handlers.asgi import ASGIRequest
from django.http import Http404, HttpResponse, JsonResponse, StreamingHttpResponse
from django.views.decorators.http import require_GET, require_POST

from demo_project.settings import DEMO_STAGE
from demo_project.stage.actors import bob_reads
from demo_project.stage.attacks import ATTACKS, NotNowError, run
from demo_project.stage.redis_watch import watch
from demo_project.stage.sandbox import MOST, PATIENCE, SANDBOXES, SIDES, Sandbox

QUEUE = 1000  # observations that may wait for a page
BACKEND = "django.contrib.auth.backends.ModelBackend"


@require_POST
async def open_sandbox(request: ASGIRequest) -> HttpResponse:
    """Make a sandbox; a visitor without a login is logged in as its alice."""
    if not DEMO_STAGE:
        raise Http404
    if len(SANDBOXES) >= MOST:
        return JsonResponse({"error": "Too many visitors just now."}, status=503)
    watch()
    sandbox = Sandbox(request.scope["server"], request.get_host())
    visitor = await request.auser()
    await sandbox.open(visitor if visitor.is_authenticated else None)
    SANDBOXES[sandbox.name] = sandbox
    if not visitor.is_authenticated:
        await alogin(request, sandbox.alice, backend=BACKEND)
        await request.session.asave()
    sandbox.alice_session = request.session.session_key or ""
    present = [asyncio.Event() for _ in SIDES]
    for side, event in zip(SIDES, present, strict=True):
        sandbox.tasks.append(asyncio.create_task(bob_reads(sandbox, side, event)))
    await asyncio.wait_for(asyncio.gather(*(event.wait() for event in present)), PATIENCE)
    return JsonResponse({"name": sandbox.name, "paths": {s: sandbox.path(s) for s in SIDES}})


@require_GET
async def observations(request: ASGIRequest, name: str) -> StreamingHttpResponse:
    """The stream of a sandbox's observations, as server-sent events."""
    sandbox = await own_sandbox(request, name)
    sandbox.page = asyncio.Queue(QUEUE)
    return StreamingHttpResponse(
        _events(sandbox.page),
        content_type="text/event-stream",
        headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
    )


async def _events(page: asyncio.Queue[dict[str, object]]) -> AsyncIterator[str]:
    yield ": open\n\n"
    while True:
        message = await page.get()
        yield f"data: {json.dumps(message)}\n\n"
        if message.get("over"):
            return


@require_POST
async def attack(request: ASGIRequest, name: str, attack: str) -> HttpResponse:
    """Run one attack against both servers; the verdicts."""
    sandbox = await own_sandbox(request, name)
    if attack not in ATTACKS:
        raise Http404
    try:
        return JsonResponse(await run(sandbox, attack))
    except NotNowError as error:
        return JsonResponse({"error": str(error)}, status=409)


async def own_sandbox(request: ASGIRequest, name: str) -> Sandbox:
    """The sandbox of the visitor who is logged in as its alice.

    Raises:
        Http404: there is none of this name that is his.
    """
    sandbox = SANDBOXES.get(name)
    user = await request.auser()
    if sandbox is None or user != sandbox.alice:
        raise Http404
    return sandbox
