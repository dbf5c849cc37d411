"""``path("gcrypt/", include("gcrypt_channels.urls"))`` serves the key endpoint."""

from __future__ import annotations

from django.urls import path

from . import views

app_name = "gcrypt_channels"

urlpatterns = [path("key/", views.key, name="key")]
