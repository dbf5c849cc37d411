from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import AnonymousUser
from django.core.management import call_command
from django.http import HttpRequest
from django.template import Context, Template
from django.test import Client, RequestFactory
from django.urls import NoReverseMatch

from gcrypt_channels.protocol.profiles import secure_profiles

SCRIPT = "{% load gcrypt %}{% gcrypt_script %}"
CONFIG = "{% load gcrypt %}{% gcrypt_config %}"
HASHED = re.compile(r"^/static/gcrypt_channels/gcrypt\.[0-9a-f]{12}\.js$")


def render(template: str, request: HttpRequest | None = None, **context: Any) -> str:
    return Template(template).render(Context({"request": request, **context}))


@pytest.fixture
def request_() -> HttpRequest:
    request = RequestFactory().get("/")
    request.user = AnonymousUser()
    return request


def import_map(html: str) -> dict[str, str]:
    found = re.search(r'<script type="importmap"[^>]*>(.*?)</script>', html)
    assert found is not None
    imports: dict[str, str] = json.loads(found[1])["imports"]
    return imports


def config(html: str) -> dict[str, Any]:
    found = re.search(r'<script id="gcrypt-config" type="application/json">(.*?)</script>', html)
    assert found is not None
    members: dict[str, Any] = json.loads(found[1])
    return members


def test_the_script_maps_the_import_and_carries_the_config(request_: HttpRequest) -> None:
    html = render(SCRIPT, request_)
    assert import_map(html) == {"gcrypt_channels": "/static/gcrypt_channels/gcrypt.js"}
    assert config(html) == {
        "keyUrl": "/gcrypt/key/",
        "profiles": [*secure_profiles(), "gcrypt.v1"],
        "csrfCookie": "csrftoken",
        "csrfHeader": "X-CSRFTOKEN",
    }


def test_the_config_stands_alone_for_bundled_pages(request_: HttpRequest) -> None:
    html = render(CONFIG, request_)
    assert "importmap" not in html
    assert config(html)["keyUrl"] == "/gcrypt/key/"


def test_the_module_that_is_mapped_exists() -> None:
    from django.contrib.staticfiles import finders

    path = import_map(render(SCRIPT))["gcrypt_channels"].removeprefix("/static/")
    assert finders.find(path) is not None


def test_the_profiles_of_the_settings_are_named_in_their_order(settings: Any) -> None:
    settings.GCRYPT = {"PROFILES": ["gcrypt.v1", "gcrypt.v2"]}
    assert config(render(CONFIG))["profiles"] == ["gcrypt.v1", "gcrypt.v2"]


def test_names_of_the_projects_csrf_settings_are_passed_on(settings: Any) -> None:
    settings.CSRF_COOKIE_NAME = "mytoken"
    settings.CSRF_HEADER_NAME = "HTTP_X_MY_TOKEN"
    members = config(render(CONFIG))
    assert (members["csrfCookie"], members["csrfHeader"]) == ("mytoken", "X-MY-TOKEN")


# Content security policy


def test_the_nonce_of_the_context_is_set(request_: HttpRequest) -> None:
    html = render(SCRIPT, request_, csp_nonce="abc+/=")
    assert '<script type="importmap" nonce="abc+/=">' in html


def test_the_nonce_of_the_request_is_set(request_: HttpRequest) -> None:
    request_.csp_nonce = "abc"  # type: ignore[attr-defined]
    assert '<script type="importmap" nonce="abc">' in render(SCRIPT, request_)


def test_a_nonce_cannot_break_out_of_its_attribute(request_: HttpRequest) -> None:
    html = render(SCRIPT, request_, csp_nonce='"><script>alert(1)</script>')
    assert "<script>alert" not in html


def test_without_a_nonce_there_is_no_attribute(request_: HttpRequest) -> None:
    assert '<script type="importmap">' in render(SCRIPT, request_)


def test_the_static_url_cannot_end_the_script(settings: Any, request_: HttpRequest) -> None:
    settings.STATIC_URL = "/</script><script>alert(1)//"
    html = render(SCRIPT, request_)
    assert html.count("<script") == 2
    assert "</script><script>alert" not in html


# CSRF


def test_the_page_sends_the_csrf_cookie_without_a_form() -> None:
    response = Client().get("/page/")
    assert "csrftoken" in response.cookies
    assert "csrfToken" not in config(response.content.decode())


@pytest.mark.django_db
@pytest.mark.parametrize("setting", ["CSRF_USE_SESSIONS", "CSRF_COOKIE_HTTPONLY"])
def test_the_token_is_in_the_config_where_scripts_cannot_read_the_cookie(
    settings: Any, setting: str
) -> None:
    setattr(settings, setting, True)
    members = config(Client().get("/page/").content.decode())
    assert len(members["csrfToken"]) == 64  # masked anew for each page


def test_without_a_request_there_is_no_token(settings: Any) -> None:
    settings.CSRF_COOKIE_HTTPONLY = True
    assert "csrfToken" not in config(render(CONFIG))


# Secrets


@pytest.mark.django_db
def test_no_secret_is_in_the_page(django_user_model: Any, settings: Any) -> None:
    client = Client()
    client.force_login(django_user_model.objects.create_user("alice"))
    keys = client.post("/gcrypt/key/").json()
    html = client.get("/page/").content.decode()
    for secret in (
        settings.GCRYPT_PASSPHRASE,
        keys["gcrypt.v1"]["passphrase"],
        keys["session"]["psk"],
        client.cookies[settings.SESSION_COOKIE_NAME].value,
    ):
        assert secret not in html


# Deployment


def test_the_hashed_name_of_the_manifest_storage_is_mapped(settings: Any, tmp_path: Path) -> None:
    settings.STATIC_ROOT = str(tmp_path)
    settings.INSTALLED_APPS = [*settings.INSTALLED_APPS, "django.contrib.staticfiles"]
    settings.DEBUG = False
    settings.STORAGES = {
        **settings.STORAGES,
        "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.ManifestStaticFilesStorage"},
    }
    call_command("collectstatic", "--noinput", verbosity=0)
    url = import_map(render(SCRIPT))["gcrypt_channels"]
    assert HASHED.match(url)
    assert (tmp_path / url.removeprefix("/static/")).is_file()


def test_a_project_without_the_endpoint_is_told_what_to_add(settings: Any) -> None:
    settings.ROOT_URLCONF = "gcrypt_channels.urls"  # not included under its namespace
    with pytest.raises(NoReverseMatch, match=r"include\(\"gcrypt_channels\.urls\"\)"):
        render(CONFIG)
