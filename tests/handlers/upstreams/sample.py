"""A Flask application as the platform's guides have them: on port 9000 and no other.

It is started as a program: `python sample.py`.
"""

from flask import Flask, request

app = Flask(__name__)


@app.post("/initialize")
def initialize() -> str:
    print(f"getting ready for {request.headers['x-fc-request-id']}")
    return "ready"


@app.post("/invoke")
def invoke() -> tuple[str, int, list[tuple[str, str]]]:
    event = request.stream.read().decode()
    # Without a flush, as people write it.
    print(f"{request.headers['x-fc-request-id']} got {event}")
    return f"Hello, {event}!", 200, [("Author", "sample")]


if __name__ == "__main__":
    app.run(host="0.0.0.0", port=9000)  # noqa: S104 - as the guides have it
