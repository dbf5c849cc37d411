"""HTTP goes to Django, WebSockets through gcrypt_channels to the consumers."""

from __future__ import annotations

import os
from typing import Any

from channels.auth import AuthMiddlewareStack
from channels.routing import ProtocolTypeRouter, URLRouter
from channels.security.websocket import AllowedHostsOriginValidator
from django.contrib.staticfiles.handlers import ASGIStaticFilesHandler
from django.core.asgi import get_asgi_application
from django.urls import re_path

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "demo_project.settings")
django_application = get_asgi_application()  # loads the apps, which the imports below need

from demo_project.routing import plain_urlpatterns, websocket_urlpatterns  # noqa: E402
from demo_project.settings import DEMO_STAGE  # noqa: E402
from demo_project.stage.tap import Tap  # noqa: E402
from gcrypt_channels import GcryptMiddleware  # noqa: E402

application: Any = ProtocolTypeRouter(
    {
        "http": ASGIStaticFilesHandler(django_application),  # daphne itself serves no files
        "websocket": AllowedHostsOriginValidator(
            AuthMiddlewareStack(
                URLRouter(
                    [
                        *plain_urlpatterns,
                        re_path("", GcryptMiddleware(URLRouter(websocket_urlpatterns))),  # type: ignore[arg-type,list-item]
                    ]
                )
            )
        ),
    }
)
if DEMO_STAGE:
    application = Tap(application)  # the man in the middle of the front page
