from __future__ import annotations

from django.urls import include, path

urlpatterns = [path("gcrypt/", include("gcrypt_channels.urls"))]
