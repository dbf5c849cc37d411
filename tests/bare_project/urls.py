"""A page with the client on it, and the key endpoint."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from django.template import engines
from django.urls import include, path


def page(request: HttpRequest) -> HttpResponse:
    template = engines["django"].from_string("{% load gcrypt %}{% gcrypt_script %}")
    return HttpResponse(template.render({}, request))


urlpatterns = [path("", page), path("gcrypt/", include("gcrypt_channels.urls"))]
