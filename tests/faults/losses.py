"""A channel layer that loses messages, as channels_redis does when a channel is full."""

from __future__ import annotations

import random
from typing import Any, Final

LOSS: Final = 0.03
"""How likely a worker's layer loses a message."""


class Losses:
    """Makes a layer lose messages, but none of the hub's own.

    Attributes:
        likelihood: of each message to be lost, from now on.
    """

    def __init__(self, layer: Any, draw: random.Random) -> None:
        self.likelihood = LOSS
        receive = layer.receive

        async def lossy(channel: str) -> Any:
            while True:
                message = await receive(channel)
                if "data" not in message or draw.random() >= self.likelihood:
                    return message

        layer.receive = lossy
