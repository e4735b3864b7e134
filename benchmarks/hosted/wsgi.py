"""The handler as a Flask application, for servers that take one.

python wsgi.py PORT      Flask's own server, as in Function Compute's samples
gunicorn wsgi:app        and so on

`plain` is the same without Flask.
"""

from __future__ import annotations

import sys

from flask import Flask, Response, request  # type: ignore[import-not-found]
from hosting import load, make_app, respond  # type: ignore[import-not-found]

handler = load()
app = Flask(__name__)
plain = make_app(handler)


@app.route("/invoke", methods=["POST"])  # type: ignore[untyped-decorator]
def invoke() -> Response:
    """Call the handler as the runtime does."""
    answer = respond(handler, request.environ, request.get_data())
    return Response(answer.body, answer.status, answer.headers)


if __name__ == "__main__":
    app.run(host="127.0.0.1", port=int(sys.argv[1]))
