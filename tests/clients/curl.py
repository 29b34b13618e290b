# SPDX-License-Identifier: MIT
"""curl, at weir-echo: its pages, and what somebody who does not sees."""

import subprocess
import sys

ADDRESS = sys.argv[1]


def ask(*arguments):
    """Status, and all that was said."""
    result = subprocess.run(["curl", "--silent", "--show-error", "--include", "--max-time", "10", *arguments], capture_output=True, text=True,
                            check=False)
    if result.returncode != 0:
        sys.exit(f"curl {' '.join(arguments)}: {result.returncode}: {result.stderr}")
    return int(result.stdout.split()[1]), result.stdout


def demand(status, holds, *arguments):
    answered, text = ask(*arguments, f"http://{ADDRESS}/")
    if answered != status or holds not in text:
        sys.exit(f"curl {' '.join(arguments)}: {status} with '{holds}' was due, and this came:\n{text}")


UPGRADE = ["-H", "Upgrade: websocket", "-H", "Connection: Upgrade"]
KEY = ["-H", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="]

def page(path, holds):
    status, text = ask(f"http://{ADDRESS}{path}")
    if status != 200 or holds not in text:
        sys.exit(f"curl {path}: '{holds}' was due, and this came:\n{text}")


page("/healthz", "\n\nok\n")
page("/healthz?why=not", "Content-Length: 3\n")
page("/metrics", 'weir_accepted_total{shard="1"} ')
page("/metrics", 'weir_closed_total{shard="0",reason="handshake"} ')
demand(404, "no such page")
demand(404, "", "--head")
demand(405, "Allow: GET, HEAD", "--request", "DELETE")
demand(413, "no bodies", "--data", "a body")
demand(505, "HTTP/1.1", "--http1.0")
demand(431, "too many", "-H", "X-Long: " + "x" * 9000)
demand(431, "too many", *[part for i in range(70) for part in ("-H", f"X-{i}: y")])
demand(426, "Sec-WebSocket-Version: 13", *UPGRADE, *KEY, "-H", "Sec-WebSocket-Version: 8")
demand(400, "Sec-WebSocket-Key", *UPGRADE, "-H", "Sec-WebSocket-Version: 13", "-H", "Sec-WebSocket-Key: short")
demand(400, "Connection: Upgrade", "-H", "Upgrade: websocket", *KEY)
print("curl: all answers are as they should be")
