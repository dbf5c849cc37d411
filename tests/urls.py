from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from django.template import engines
from django.urls import include, path

PAGE = "{% load gcrypt %}<head>{% gcrypt_script %}</head>"


def page(request: HttpRequest) -> HttpResponse:
    """A page as a project writes it."""
    return HttpResponse(engines["django"].from_string(PAGE).render({}, request))


urlpatterns = [
    path("gcrypt/", include("gcrypt_channels.urls")),
    path("page/", page),
]
