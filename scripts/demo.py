"""Serves the demo with a Redis of its own until Ctrl-C: `python -m scripts.demo PORT`."""

from __future__ import annotations

import os
import subprocess
import sys

from tests.servers import ROOT, Redis


def main() -> int:
    """Run daphne in the foreground; the exit status is its own."""
    address = ["-b", "127.0.0.1", "-p", sys.argv[1]]
    daphne = [sys.executable, "-m", "daphne", *address, "demo_project.asgi:application"]
    with Redis() as redis:
        print(f"What Redis sees: redis-cli -p {redis.port} monitor", flush=True)
        process = subprocess.Popen(daphne, cwd=ROOT, env={**os.environ, "REDIS_URL": redis.url})
        while True:
            try:
                return process.wait()
            except KeyboardInterrupt:  # daphne has got it as well, and ends
                continue


if __name__ == "__main__":
    sys.exit(main())
