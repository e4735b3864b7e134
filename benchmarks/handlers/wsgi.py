"""The crashing handler as a Flask application, for servers that take one.

python wsgi.py PORT      Flask's own server, as in Function Compute's samples
gunicorn wsgi:app        and so on
"""

from __future__ import annotations

import sys

from crashes import handler  # type: ignore[import-not-found]
from flask import Flask, request  # type: ignore[import-not-found]

app = Flask(__name__)


@app.route("/invoke", methods=["POST"])  # type: ignore[untyped-decorator]
def invoke() -> str:
    """Call the handler as the runtime does."""
    return str(handler(request.get_data(), None))


if __name__ == "__main__":
    app.run(host="127.0.0.1", port=int(sys.argv[1]))
