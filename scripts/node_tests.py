"""Runs the browser client's tests under another Node: `python -m scripts.node_tests VERSION`.

npm brings that Node. Exits with `NOT_RUN` where it cannot.
"""

from __future__ import annotations

import platform
import subprocess
import sys
from pathlib import Path

from tests.foreign.__main__ import NOT_RUN

ROOT = Path(__file__).resolve().parent.parent
MACHINES = {"x86_64": "x64", "aarch64": "arm64"}  # npm's words for Python's


def main(version: str) -> int:
    machine = MACHINES.get(platform.machine(), platform.machine())
    node = ["npm", "exec", "--yes", f"--package=node-linux-{machine}@{version}", "--", "node"]
    found = subprocess.run([*node, "--version"], capture_output=True, text=True, check=False)
    if found.returncode:
        print(f"npm has no Node {version} for this machine")
        return NOT_RUN
    files = [str(each) for each in sorted(ROOT.glob("tests/js/*.test.js"))]
    for mode in (["--conditions=source"], []):
        command = [*node, *mode, "--test", "--test-timeout=300000", *files]
        status = subprocess.run(command, cwd=ROOT, check=False).returncode
        if status:
            return status
    print(f"Node {found.stdout.strip()}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
