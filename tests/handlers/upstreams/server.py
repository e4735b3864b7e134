"""An HTTP server as people write them for the platform, that can also fail.

It is started as a program: `python server.py`. What the event says is done.
"""

import json
import os
import signal
import subprocess
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

PORT = int(os.environ.get("SERVER_PORT_FIXED") or os.environ["FC_CUSTOM_LISTEN_PORT"])
initialized: list[str] = []


class Handler(BaseHTTPRequestHandler):
    protocol_version = os.environ.get("SERVER_PROTOCOL", "HTTP/1.1")

    def log_message(self, *args):
        pass

    def answer(self, body, status=200, **headers):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def handle_any(self):
        length = int(self.headers.get("Content-Length", 0))
        if length > int(os.environ.get("MAX_BODY", length)):
            # Without having read it, and ready for the next request, as it believes.
            self.answer(b"too large", 413)
            self.wfile.flush()
            time.sleep(0.2)
            return
        body = self.rfile.read(length)
        path, _, query = self.path.partition("?")
        if path == "/initialize":
            self.initialize(query)
        elif path in ("/pre-stop", "/pre-freeze"):
            print(f"{path} in {os.getpid()}", flush=True)
            self.answer(b"", 404 if os.environ.get("NO_HOOKS") else 200)
        elif path == "/invoke":
            self.invoke(body)
        else:
            self.page(path, query, body)

    do_GET = do_POST = do_PUT = do_HEAD = handle_any  # noqa: N815 - the library's names

    def initialize(self, query):
        initialized.append(query)
        print("initializing", flush=True)
        self.answer(b"ready", int(os.environ.get("INITIALIZE_STATUS", "200")))

    def invoke(self, body):
        word, _, rest = body.decode("latin-1").partition(" ")
        getattr(self, f"do_event_{word}", self.do_event_echo)(rest, body)
        if "CLOSES_AFTER_S" in os.environ:
            time.sleep(float(os.environ["CLOSES_AFTER_S"]))
            self.close_connection = True

    def do_event_echo(self, rest, body):
        print(f"handling {self.headers['x-fc-request-id']}")
        self.answer(body, Content_Type="text/x-mine", Author="me")

    def do_event_tell(self, rest, body):
        told = {
            "pid": os.getpid(),
            "initialized": len(initialized),
            "port": PORT,
            "client_port": self.client_address[1],
            "variables": [os.environ.get(name) for name in ("PORT", "FC_SERVER_PORT")],
            "headers": {name.lower(): value for name, value in self.headers.items()},
        }
        self.answer(json.dumps(told).encode())

    def do_event_die(self, rest, body):
        print("last words", flush=True)
        os.kill(os.getpid(), getattr(signal, f"SIG{rest}"))
        time.sleep(10)

    def do_event_exit(self, rest, body):
        os._exit(int(rest))

    def do_event_hang(self, rest, body):
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        subprocess.Popen(["sleep", "60"])
        time.sleep(60)

    def do_event_wait(self, rest, body):
        print("waiting", flush=True)
        while not Path(rest).exists():
            time.sleep(0.01)
        self.answer(b"done")

    def do_event_eat(self, rest, body):
        held = bytearray(int(rest) << 20)
        held[::4096] = b"x" * len(held[::4096])
        time.sleep(10)

    def do_event_fail(self, rest, body):
        self.answer(b'{"errorMessage": "no"}', int(rest))

    def do_event_failfc(self, rest, body):
        self.answer(b'{"errorMessage": "no"}', 200, X_Fc_Status=rest)

    def do_event_leave(self, rest, body):
        # As a daemon does: in a session of its own, with its parent gone.
        script = "setsid sleep 60 >/dev/null 2>&1 & echo started"
        self.answer(subprocess.check_output(["sh", "-c", script]))

    def do_event_drop(self, rest, body):
        self.close_connection = True

    def do_event_garbage(self, rest, body):
        self.wfile.write(b"this is no HTTP\r\n\r\n")
        self.close_connection = True

    def do_event_later(self, rest, body):
        """Answer, and be gone before the next call."""
        self.answer(b"answered")
        self.wfile.flush()
        os._exit(5)

    def do_event_chunked(self, rest, body):
        self.chunks([b"one ", b"two ", b"three"])

    def do_event_large(self, rest, body):
        self.answer(b"z" * int(rest))

    def chunks(self, pieces, gate=None):
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for number, piece in enumerate(pieces):
            while gate and not Path(f"{gate}{number}").exists():
                time.sleep(0.01)
            self.wfile.write(b"%x\r\n%b\r\n" % (len(piece), piece))
            self.wfile.flush()
        self.wfile.write(b"0\r\n\r\n")

    def page(self, path, query, body):
        if path == "/stream":
            self.chunks([b"piece 0\n", b"piece 1\n", b"piece 2\n"], query)
        elif path == "/dies":
            self.send_response(200)
            self.send_header("Content-Length", "100")
            self.end_headers()
            self.wfile.write(b"first\n")
            self.wfile.flush()
            time.sleep(0.2)
            os._exit(3)
        elif path == "/empty":
            self.send_response(204)
            self.end_headers()
        else:
            told = {
                "method": self.command,
                "path": self.path,
                "body": body.decode("latin-1"),
                "mine": self.headers.get("X-Mine"),
                "connection": self.headers.get("Connection"),
            }
            self.answer(json.dumps(told).encode(), 201, Set_Cookie="a=1")


class Server(ThreadingHTTPServer):
    # What many servers do not ask for, and have to do without.
    allow_reuse_address = not os.environ.get("NO_REUSE")


if __name__ == "__main__":
    if "BEFORE" in os.environ:
        print(os.environ["BEFORE"], file=sys.stderr, flush=True)
        sys.exit(7)
    Server(("0.0.0.0", PORT), Handler).serve_forever()  # noqa: S104 - as the platform wants it
