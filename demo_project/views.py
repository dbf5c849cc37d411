"""The pages. Everything that moves on them goes over an encrypted WebSocket."""

from __future__ import annotations

import json
from typing import Any

from django.conf import settings
from django.contrib.auth.decorators import login_required
from django.contrib.auth.views import LoginView
from django.core.handlers.asgi import ASGIRequest
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBadRequest, JsonResponse
from django.middleware.csrf import get_token
from django.shortcuts import render
from django.views.decorators.http import require_POST

from demo_project.management.commands.demo_users import DEMO_USERS
from demo_project.settings import DEMO_STAGE, REDIS_URL
from demo_project.stage.listing import files_to_change
from demo_project.trespass import try_frame
from gcrypt_channels.protocol.profiles import Profile

# (where, class of the column, (attack, its name, what it does))
ATTACK_GROUPS = [
    (
        "Attack alice's login",
        "",
        [
            (
                "cookie",
                "Steal the cookie",
                "A thief copies alice's session cookie and opens a socket of his own.",
            ),
            (
                "logout",
                "Log alice out",
                "alice logs out elsewhere, with two sockets open: hers and a thief's.",
            ),
        ],
    ),
    (
        "Attack the wire",
        "two mid",
        [
            (
                "flip",
                "Flip a bit",
                "The proxy changes one bit of alice's frame. In ASCII that makes a 1 a 9.",
            ),
            ("replay", "Replay", "The proxy sends a frame of alice's a second time."),
            (
                "splice",
                "Change the URL",
                "alice opens one room; the proxy makes it the managers' room.",
            ),
            (
                "strip",
                "Downgrade it",
                "The proxy deletes the best profile from alice's offer.",
            ),
        ],
    ),
    (
        "Attack Redis",
        "mid",
        [
            ("read", "Read Redis", "Somebody runs MONITOR on your Redis, or finds a dump."),
            (
                "forge",
                "Forge in Redis",
                "Somebody who can write to Redis makes up a message from alice, and repeats one.",
            ),
        ],
    ),
]


class DemoLoginView(LoginView):
    """Django's own, with a button for each demo user."""

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        users = DEMO_USERS if settings.DEBUG else {}
        return super().get_context_data(demo_users=users, **kwargs)


def home(request: HttpRequest) -> HttpResponse:
    """The stage and what a project adds; makes the CSRF cookie, without which it cannot open."""
    get_token(request)
    context = {
        "attacks": ATTACK_GROUPS,
        "files": files_to_change(),
        "sides": ["Plain Channels", "gcrypt_channels"],
        "has_redis": bool(REDIS_URL),
        "stage": DEMO_STAGE,
    }
    return render(request, "demo/home.html", context)


@login_required
def counter(request: HttpRequest) -> HttpResponse:
    return render(request, "demo/counter.html")


@login_required
def chat(request: HttpRequest) -> HttpResponse:
    return render(request, "demo/chat.html", {"other_window": other_window(request)})


@login_required
def inspector(request: HttpRequest) -> HttpResponse:
    return render(request, "demo/inspector.html", {"trespass": settings.DEBUG})


@require_POST
@login_required
async def trespass(request: ASGIRequest) -> HttpResponse:
    """Let the other demo user try a frame of this one.

    It is `{"text": text}` of `gcrypt.v1`, or `{"bytes": hex, "profile": name}` of the others.

    It logs somebody in who did not ask for it, so a demo that strangers can reach has no such page.
    """
    if not settings.DEBUG:
        raise Http404
    try:
        frame, profile = captured_frame(json.loads(request.body))
    except ValueError as error:
        return HttpResponseBadRequest(str(error))
    user = await request.auser()
    outcome = await try_frame(request.scope["server"], frame, profile, not_as=user.get_username())
    return JsonResponse(outcome._asdict())


def captured_frame(body: Any) -> tuple[bytes | str, Profile]:
    match body:
        case {"bytes": str(digits), "profile": "gcrypt.v3" | "gcrypt.v2" as profile}:
            return bytes.fromhex(digits), profile
        case {"text": str(text)}:
            return text, "gcrypt.v1"
        case _:
            raise ValueError("expected a frame")


@login_required
def classic(request: HttpRequest) -> HttpResponse:
    return render(request, "demo/classic.html", {"installed": bool(settings.STATICFILES_DIRS)})


def other_window(request: HttpRequest) -> str | None:
    """This page's address under this machine's other name, or None when it has none.

    127.0.0.1 and localhost are different sites to a browser, with a cookie jar each: so one
    browser can be logged in as alice in one window and as bob in the other.
    """
    names = {"127.0.0.1": "localhost", "localhost": "127.0.0.1"}
    name, colon, port = request.get_host().partition(":")
    if name not in names:
        return None
    return f"{request.scheme}://{names[name]}{colon}{port}{request.path}"
