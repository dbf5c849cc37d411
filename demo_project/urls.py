"""The HTTP paths."""

from __future__ import annotations

from django.contrib.auth.views import LogoutView
from django.urls import include, path

from demo_project import views
from demo_project.stage import views as stage

urlpatterns = [
    path("", views.home, name="home"),
    path("counter/", views.counter, name="counter"),
    path("chat/", views.chat, name="chat"),
    path("inspector/", views.inspector, name="inspector"),
    path("inspector/trespass/", views.trespass, name="trespass"),
    path("classic/", views.classic, name="classic"),
    path("accounts/login/", views.DemoLoginView.as_view(), name="login"),
    path("accounts/logout/", LogoutView.as_view(), name="logout"),
    path("stage/", stage.open_sandbox, name="stage"),
    path("stage/<str:name>/events/", stage.observations),
    path("stage/<str:name>/attacks/<str:attack>/", stage.attack),
    path("gcrypt/", include("gcrypt_channels.urls")),
]
