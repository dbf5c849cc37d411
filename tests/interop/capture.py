"""What a machine on the path sees: a tcpdump of the loopback, put together and unmasked."""

from __future__ import annotations

import os
import secrets
import shutil
import socket
import struct
import subprocess
import threading
from collections import defaultdict
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing_extensions import Self

PCAP_HEADER = 24
PACKET_HEADER = 16
ETHERNET_HEADER = 14
END_OF_HEAD = b"\r\n\r\n"


class Capture:
    """Everything to and from one TCP port of the loopback, from `with` to its end."""

    def __init__(self, port: int) -> None:
        self.port = port
        self._data = bytearray()
        self._grown = threading.Condition()

    def __enter__(self) -> Self:
        program = shutil.which("tcpdump")
        assert program is not None, "tcpdump is not installed"
        at_once, whole = ["--immediate-mode", "-U"], ["-s", "0", "-B", "65536"]
        to_stdout = ["-w", "-"]
        self._process = subprocess.Popen(
            [program, "-i", "lo", *at_once, *whole, *to_stdout, f"tcp port {self.port}"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        assert self._process.stderr is not None
        lines = iter(self._process.stderr.readline, b"")
        assert any(b"listening on" in line for line in lines), "tcpdump needs to run as root"
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        return self

    def _read(self) -> None:
        assert self._process.stdout is not None
        while chunk := os.read(self._process.stdout.fileno(), 65536):
            with self._grown:
                self._data += chunk
                self._grown.notify_all()

    def __exit__(self, *_: object) -> None:
        marker = secrets.token_hex(16).encode()
        with socket.create_connection(("127.0.0.1", self.port)) as last:
            last.sendall(b"GET /" + marker + b" HTTP/1.0\r\n\r\n")
        with self._grown:
            complete = self._grown.wait_for(lambda: marker in self._data, 30)
        self._process.terminate()
        self._reader.join()
        self._process.communicate()
        assert complete, "tcpdump did not see the last packet"

    def streams(self) -> dict[tuple[int, int], bytes]:
        """The bytes of each TCP direction, by its source and destination port."""
        segments: defaultdict[tuple[int, int], dict[int, bytes]] = defaultdict(dict)
        for packet in _packets(bytes(self._data)):
            ip = packet[ETHERNET_HEADER:]
            header, total = (ip[0] & 0x0F) * 4, int.from_bytes(ip[2:4], "big")
            tcp = ip[header:total] if total else ip[header:]  # 0 where the kernel segments later
            source, destination, sequence = struct.unpack_from("!HHI", tcp)
            payload = tcp[(tcp[12] >> 4) * 4 :]
            if payload:
                segments[source, destination].setdefault(sequence, payload)
        return {
            ports: b"".join(payload for _, payload in sorted(parts.items()))
            for ports, parts in segments.items()
        }


def _packets(data: bytes) -> Iterator[bytes]:
    assert data[:4] == struct.pack("=I", 0xA1B2C3D4), "not a capture of this machine's tcpdump"
    offset = PCAP_HEADER
    while offset + PACKET_HEADER <= len(data):
        size = struct.unpack_from("=I", data, offset + 8)[0]
        offset += PACKET_HEADER
        yield data[offset : offset + size]
        offset += size


def payloads(stream: bytes) -> bytes:
    """The unmasked payloads of the WebSocket frames behind an upgrade (RFC 6455, section 5.2)."""
    head, found, rest = stream.partition(END_OF_HEAD)
    if not found or b"upgrade: websocket" not in head.lower():
        return b""
    unmasked = []
    while len(rest) >= 2:
        length, offset = rest[1] & 0x7F, 2
        if length >= 126:
            size = 2 if length == 126 else 8
            length, offset = int.from_bytes(rest[2 : 2 + size], "big"), 2 + size
        mask = bytes(4)
        if rest[1] & 0x80:
            mask, offset = rest[offset : offset + 4], offset + 4
        payload = rest[offset : offset + length]
        key = (mask * (len(payload) // 4 + 1))[: len(payload)]
        unmasked.append(bytes(a ^ b for a, b in zip(payload, key, strict=True)))
        rest = rest[offset + length :]
    return b"\n".join(unmasked)
