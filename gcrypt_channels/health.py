"""A view that tells whether this process serves WebSockets well; see ``docs/deployment.md``.

::

    from gcrypt_channels.health import health

    urlpatterns = [path("internal/health/", health)]
"""

from __future__ import annotations

from django.contrib.auth.decorators import login_not_required
from django.http import HttpRequest, HttpResponseBase, JsonResponse
from django.views.decorators.http import require_safe

from .hub.hub import hubs

__all__ = ["health"]


@login_not_required  # a health check does not log in
@require_safe
def health(request: HttpRequest) -> HttpResponseBase:
    """Answer 200 with ``"healthy": true``, or 503 with false, and with figures in JSON.

    The process is not healthy while it does not receive from the channel layer, while logins
    cannot be looked up, and when it drains.
    """
    found = [hub.status() for hub in hubs()]
    up = [each.layer_up for each in found if each.layer_up is not None]
    ages = [each.probe_age for each in found if each.probe_age is not None]
    failures = max((each.sweep_failures for each in found), default=0)
    is_draining = any(each.draining for each in found)
    is_healthy = all(up) and not failures and not is_draining
    figures = {
        "healthy": is_healthy,
        "layer_up": all(up) if up else None,
        "probe_age": round(max(ages), 3) if ages else None,
        "sweep_failures": failures,
        "connections": sum(each.connections for each in found),
        "draining": is_draining,
    }
    response = JsonResponse(figures, status=200 if is_healthy else 503)
    response["Cache-Control"] = "no-store"
    return response
