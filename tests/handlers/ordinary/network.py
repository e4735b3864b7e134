"""Sockets, names and what is spoken over them; mostly with itself."""

from __future__ import annotations

import http.client
import http.server
import os
import select
import selectors
import socket
import socketserver
import ssl
import struct
import subprocess
import tempfile
import threading
import urllib.request
import uuid
import xmlrpc.client
import xmlrpc.server
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .registry import action


class Hello(http.server.BaseHTTPRequestHandler):
    """Answers everything with the same words."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "5")
        self.end_headers()
        self.wfile.write(b"hello")

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.do_GET()

    def log_message(self, *_arguments: object) -> None:
        """Say nothing: the handler's output is the function's log."""


@contextmanager
def serving(server: socketserver.BaseServer) -> Iterator[None]:
    """Answer in a thread for the duration of the block."""
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class HelloServer(http.server.ThreadingHTTPServer):
    """Has room for all who come at once."""

    request_queue_size = 32


@contextmanager
def hello_server() -> Iterator[str]:
    """Serve on loopback for the duration of the block; give its address."""
    server = HelloServer(("127.0.0.1", 0), Hello)
    with serving(server):
        yield f"http://127.0.0.1:{server.server_port}/"


@action("TCP on loopback")
def tcp() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as listening,
        socket.create_connection(listening.getsockname(), 5) as client,
    ):
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        server, _ = listening.accept()
        with server:
            client.sendall(b"text")
            assert server.recv(100) == b"text"


@action("TCP on the IPv6 loopback", "IPv6")
def tcp6() -> None:
    with socket.create_server(("::1", 0), family=socket.AF_INET6) as listening:
        socket.create_connection(listening.getsockname()[:2], 5).close()


@action("a server on all addresses")
def wildcard() -> None:
    with socket.create_server(("", 0), reuse_port=True) as listening:
        port = listening.getsockname()[1]
        socket.create_connection(("127.0.0.1", port), 5).close()


@action("a port that nobody listens on is refused at once")
def refused_port() -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        with socket.socket() as client:
            client.settimeout(5)
            assert client.connect_ex(bound.getsockname()) == 111


@action("UDP on loopback")
def udp() -> None:
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client,
    ):
        server.settimeout(5)
        server.bind(("127.0.0.1", 0))
        client.sendto(b"text", server.getsockname())
        assert server.recv(100) == b"text"


@action("UNIX sockets in TMPDIR and in /tmp")
def unix_sockets() -> None:
    for below in (None, "/tmp"):
        with tempfile.TemporaryDirectory(dir=below) as folder:
            path = str(Path(folder) / "socket")
            with socket.socket(socket.AF_UNIX) as listening:
                listening.bind(path)
                listening.listen()
                with socket.socket(socket.AF_UNIX) as client:
                    client.connect(path)


@action("abstract UNIX sockets between one's own processes")
def abstract_sockets() -> None:
    name = f"\0ordinary-{os.getpid()}"
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(name)
        listening.listen()
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(name)


@action("socket pairs, passed descriptors and peer credentials")
def socket_pairs() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs, tempfile.TemporaryFile() as file:
        file.write(b"text")
        file.flush()
        socket.send_fds(ours, [b"x"], [file.fileno()])
        _, (fd,), _, _ = socket.recv_fds(theirs, 10, 1)
        assert os.pread(fd, 10, 0) == b"text"
        os.close(fd)
        option = ours.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
        assert struct.unpack("3i", option)[1] == os.geteuid()


@action("select, poll, epoll and selectors")
def readiness() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.send(b"x")
        assert select.select([ours], [], [], 5)[0] == [ours]
        poll = select.poll()
        poll.register(ours, select.POLLIN)
        assert poll.poll(5000)
        with select.epoll() as epoll:
            epoll.register(ours, select.EPOLLIN)
            assert epoll.poll(5)
        with selectors.DefaultSelector() as selector:
            selector.register(ours, selectors.EVENT_READ)
            assert selector.select(5)


@action("the names of this host (localhost, gethostname)")
def names() -> None:
    assert "127.0.0.1" in {
        str(found[4][0])
        for found in socket.getaddrinfo("localhost", 80, socket.AF_INET)
    }
    assert socket.gethostbyname("localhost") == "127.0.0.1"
    assert socket.gethostname()
    assert socket.getfqdn()
    assert socket.getservbyname("http") == 80
    assert socket.getprotobyname("tcp") == 6


@action("a name that does not exist is answered")
def unknown_name() -> None:
    try:
        socket.getaddrinfo("no-such-host.invalid", 80)
    except socket.gaierror:
        return
    raise AssertionError("it was found")


@action("the host's hardware address (uuid.getnode, uuid1)")
def hardware_address() -> None:
    assert uuid.getnode()
    assert uuid.uuid1() != uuid.uuid4()


@action("the list of network interfaces (if_nameindex)")
def interfaces() -> None:
    assert "lo" in [name for _, name in socket.if_nameindex()]


@action("http.server and urllib")
def http_and_urllib() -> None:
    with hello_server() as url:
        with urllib.request.urlopen(url, timeout=5) as response:  # noqa: S310 - its own server
            assert response.read() == b"hello"
        request = urllib.request.Request(url, data=b"some data")  # noqa: S310 - its own server
        with urllib.request.urlopen(request, timeout=5) as response:  # noqa: S310 - its own server
            assert response.status == 200


@action("many HTTP connections at once")
def many_connections() -> None:
    with hello_server() as url:
        host = url.split("/")[2]
        clients = [http.client.HTTPConnection(host, timeout=5) for _ in range(20)]
        for client in clients:
            client.request("GET", "/")
        for client in clients:
            assert client.getresponse().read() == b"hello"
            client.close()


@action("XML-RPC")
def xml_rpc() -> None:
    server = xmlrpc.server.SimpleXMLRPCServer(("127.0.0.1", 0), logRequests=False)
    server.register_function(lambda a, b: a + b, "add")
    with serving(server):
        url = f"http://127.0.0.1:{server.server_address[1]}"
        with xmlrpc.client.ServerProxy(url) as proxy:
            assert proxy.add(1, 2) == 3


@action("TLS: the default context and the system's certificates")
def tls_context() -> None:
    context = ssl.create_default_context()
    paths = ssl.get_default_verify_paths()
    if paths.cafile:
        assert context.get_ca_certs(), f"none of {paths.cafile}"
    assert ssl.RAND_bytes(16)


@action("TLS over loopback with a certificate of one's own", "openssl")
def tls_over_loopback() -> None:
    with tempfile.TemporaryDirectory() as folder:
        certificate, key = make_certificate(Path(folder))
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hello)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        server.socket = context.wrap_socket(server.socket, server_side=True)
        with serving(server):
            trusting = ssl.create_default_context(cafile=str(certificate))
            url = f"https://localhost:{server.server_port}/"
            with urllib.request.urlopen(url, timeout=5, context=trusting) as response:
                assert response.read() == b"hello"


def make_certificate(folder: Path) -> tuple[Path, Path]:
    """Make a certificate for localhost; return it and its key."""
    certificate, key = folder / "certificate.pem", folder / "key.pem"
    command = ["openssl", "req", "-x509", "-nodes", "-newkey", "ec", "-days", "2"]
    command += ["-pkeyopt", "ec_paramgen_curve:prime256v1", "-subj", "/CN=localhost"]
    command += ["-addext", "subjectAltName=DNS:localhost"]
    command += ["-keyout", str(key), "-out", str(certificate)]
    subprocess.run(command, check=True, capture_output=True)
    return certificate, key
