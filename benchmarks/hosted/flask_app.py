"""A Flask application that answers with what stands under `key`.

python flask_app.py          Flask's own server, on the port that PORT names
gunicorn flask_app:app       and so on
"""

from __future__ import annotations

import json
import os

from flask import Flask, request  # type: ignore[import-not-found]

app = Flask(__name__)


@app.route("/invoke", methods=["POST"])  # type: ignore[untyped-decorator]
def invoke() -> str:
    """Answer an event."""
    return str(json.loads(request.get_data())["key"])


if __name__ == "__main__":
    import logging

    # A line for each call, which nobody else here writes.
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    app.run(host="127.0.0.1", port=int(os.environ["PORT"]))
