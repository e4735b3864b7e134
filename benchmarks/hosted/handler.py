"""The platform's sample, as a handler and as a program: event on stdin, answer on stdout."""

import json
import sys


def handler(event: bytes, context: object) -> str:
    """Answer with what stands under `key`."""
    return str(json.loads(event)["key"])


if __name__ == "__main__":
    sys.stdout.write(handler(sys.stdin.buffer.read(), None))
