"""HTTP goes to Django, WebSockets through gcrypt_channels to the consumers."""

from __future__ import annotations

import os

from channels.auth import AuthMiddlewareStack
from channels.routing import ProtocolTypeRouter, URLRouter
from channels.security.websocket import AllowedHostsOriginValidator
from django.contrib.staticfiles.handlers import ASGIStaticFilesHandler
from django.core.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "demo_project.settings")
django_application = get_asgi_application()  # loads the apps, which the imports below need

from demo_project.routing import websocket_urlpatterns  # noqa: E402
from gcrypt_channels import GcryptMiddleware  # noqa: E402

application = ProtocolTypeRouter(
    {
        "http": ASGIStaticFilesHandler(django_application),  # daphne itself serves no files
        "websocket": AllowedHostsOriginValidator(
            AuthMiddlewareStack(GcryptMiddleware(URLRouter(websocket_urlpatterns)))
        ),
    }
)
