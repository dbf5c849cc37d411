"""A user logs in, fetches the key and counts over an encrypted socket: run by `manage.py shell`."""

from __future__ import annotations

import asyncio
import base64
import json

from channels.routing import get_default_application
from channels.testing import WebsocketCommunicator
from django.contrib.auth.models import User
from django.test import Client

from gcrypt_channels.protocol.events import Accepted, Binding, HelloReceived, Text
from gcrypt_channels.protocol.secure import SecureSession

browser = Client(enforce_csrf_checks=True, SERVER_NAME="localhost")
browser.force_login(User.objects.create_user("alice"))
page = browser.get("/").content.decode()
assert "gcrypt_channels/gcrypt.js" in page, page
token = browser.cookies["csrftoken"].value
answer = browser.post("/gcrypt/key/", headers={"X-CSRFToken": token})
assert answer.status_code == 200, answer
key = answer.json()["session"]
headers = [
    (b"host", b"localhost"),
    (b"origin", b"http://localhost"),
    (b"cookie", f"sessionid={browser.cookies['sessionid'].value}".encode()),
]


async def count() -> None:
    application = get_default_application()
    socket = WebsocketCommunicator(application, "/ws/counter/", headers, ["gcrypt.v2"])
    assert await socket.connect(timeout=30) == (True, "gcrypt.v2")
    session = SecureSession(role="client")
    hello = session.receive(await socket.receive_from(timeout=30))
    assert isinstance(hello, HelloReceived), hello
    assert hello.kid.hex() == key["kid"]
    binding = Binding(("gcrypt.v2",), "localhost", "/ws/counter/")
    psk = base64.urlsafe_b64decode(key["psk"] + "=")
    await socket.send_to(bytes_data=session.reply(psk, (), binding))
    assert isinstance(session.receive(await socket.receive_from(timeout=30)), Accepted)
    for frame in session.seal(json.dumps({"id": 41})):
        await socket.send_to(bytes_data=frame)
    counted = session.receive(await socket.receive_from(timeout=30))
    assert isinstance(counted, Text), counted
    assert json.loads(counted.data) == {"id": 42}
    await socket.disconnect(timeout=30)


asyncio.run(count())
print("counted to 42")
