"""Greets whoever the event names, as a server that needs nothing but Python."""

import json
import os
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Greeter(BaseHTTPRequestHandler):
    """Answers events."""

    protocol_version = "HTTP/1.1"  # so that connections stay open between requests

    def do_POST(self):
        """Greet."""
        event = self.rfile.read(int(self.headers["Content-Length"]))
        name = event.decode().strip()
        print(self.headers["x-fc-request-id"], f"greeting {name!r}", flush=True)
        if name == "crash":
            os.abort()
        if name:
            self.answer(200, f"Hello, {name}!")
        else:
            failure = {
                "errorMessage": "there is nobody to greet",
                "errorType": "NoName",
            }
            self.answer(404, json.dumps(failure))

    def answer(self, status, text):
        """Send an answer, and say in `x-fc-status` whether it is a failure."""
        body = text.encode()
        self.send_response(status)
        self.send_header("x-fc-status", str(status))
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


if __name__ == "__main__":
    port = int(os.environ.get("FC_SERVER_PORT", "9000"))
    ThreadingHTTPServer(("0.0.0.0", port), Greeter).serve_forever()  # noqa: S104 - the platform connects from outside
