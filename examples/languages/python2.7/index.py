"""A function of the Python 2.7 runtime: its event is a str, and bytes at that."""

import logging


def handler(event, context):
    name = event.strip()
    logging.getLogger().info("greeting %r", name)
    if not name:
        raise ValueError("there is nobody to greet")
    return "Hello, " + name + "!"
