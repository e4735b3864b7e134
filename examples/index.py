"""Answer with the value that stands under `key` in a JSON event."""

import json


def handler(event, context):
    evt = json.loads(event)
    return evt["key"]
