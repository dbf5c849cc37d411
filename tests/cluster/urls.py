from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from django.urls import include, path
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_POST

from gcrypt_channels import broadcast_sync
from gcrypt_channels.exceptions import TryAgainLater


@csrf_exempt
@require_POST
def announce(request: HttpRequest, room: str) -> HttpResponse:
    """A synchronous view, which has no socket and sends to all of them."""
    try:
        broadcast_sync(f"chat.{room}", {"announcement": request.POST["text"]})
    except TryAgainLater as error:
        return HttpResponse(error.reason, status=503)
    return HttpResponse("sent")


urlpatterns = [
    path("announce/<slug:room>/", announce),
    path("", include("demo_project.urls")),
]
