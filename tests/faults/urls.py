"""Logging in and out without a form, and the key endpoint."""

from __future__ import annotations

from django.contrib.auth import login, logout
from django.contrib.auth.models import User
from django.http import HttpRequest, HttpResponse
from django.middleware.csrf import get_token
from django.urls import include, path
from django.views.decorators.csrf import csrf_exempt


@csrf_exempt
def enter(request: HttpRequest) -> HttpResponse:
    login(request, User.objects.get(username=request.POST["user"]))
    get_token(request)  # for the key endpoint
    return HttpResponse()


@csrf_exempt
def leave(request: HttpRequest) -> HttpResponse:
    logout(request)
    return HttpResponse()


urlpatterns = [
    path("enter/", enter),
    path("leave/", leave),
    path("gcrypt/", include("gcrypt_channels.urls")),
]
