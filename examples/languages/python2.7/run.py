"""Runs a function of the Python 2.7 runtime for one event.

    python2.7 run.py index.handler

The event is on standard input and becomes a str, the answer goes to standard output.
"""

import importlib
import logging
import os
import sys


class Context:
    """What the handler is told about the invocation."""

    def __init__(self, environ):
        self.request_id = self.requestId = environ["FC_REQUEST_ID"]
        self.function_name = environ.get("FC_FUNCTION_NAME", "")


def main(name):
    """Call the handler `module.function`; what it raises ends the process with 1."""
    context = Context(os.environ)
    name_in_log = context.request_id.replace("%", "%%")
    line = "%(asctime)s " + name_in_log + " [%(levelname)s] %(message)s"
    logging.basicConfig(level=logging.INFO, format=line)
    module, _, function = name.rpartition(".")
    handler = getattr(importlib.import_module(module), function)
    answer = handler(sys.stdin.read(), context)
    sys.stdout.write(answer)


if __name__ == "__main__":
    main(sys.argv[1])
