"""`serve --reload`: somebody edits a function while it is served."""

from __future__ import annotations

import signal
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.contract.test_gateway import call
from tests.support.admin import Admin
from tests.support.server import PROJECT, Serve
from tests.waiting import wait_until

WAITS = """\
import os, time
VALUE = {value!r}
def handler(event, context):
    if event:
        print("waiting", flush=True)
        while not os.path.exists(event.decode()):
            time.sleep(0.005)
    return VALUE
"""
ADDRESS = ("--gateway", "--admin", "127.0.0.1:0")


def write(code_dir: Path, value: str) -> None:
    # As most editors do: beside the file, and then in its place.
    beside = code_dir / "index.py~"
    beside.write_text(WAITS.format(value=value))
    beside.rename(code_dir / "index.py")


@pytest.fixture
def without_watchfiles(tmp_path: Path) -> dict[str, str]:
    """Return variables of a server that has no watchfiles."""
    shadow = tmp_path / "shadow"
    shadow.mkdir()
    (shadow / "watchfiles.py").write_text("raise ImportError('it is not whole')\n")
    return {"PYTHONPATH": f"{shadow}:{PROJECT}"}


@pytest.mark.parametrize("is_polling", [False, True])
def test_changed_code_is_served_and_what_runs_finishes_on_what_it_began_with(
    serve: Serve,
    code_dir: Path,
    gate: Path,
    without_watchfiles: dict[str, str],
    is_polling: bool,
) -> None:
    write(code_dir, "one")
    env = without_watchfiles if is_polling else {}
    server = serve("index.handler", "--reload", code_dir=code_dir, env=env)
    assert server.invoke().body == b"one"
    with ThreadPoolExecutor(1) as others:
        running = others.submit(server.once, "POST", "/invoke", str(gate).encode())
        wait_until(lambda: server.stdout.contains(b"waiting"))
        write(code_dir, "two")
        server.wait_for_answer(b"two")
        assert len(server.zygotes) == 2
        gate.touch()
        assert running.result(10).body == b"one"
    wait_until(lambda: len(server.zygotes) == 1, 5, "the former zygote is gone")
    assert server.wait_for_message("reloaded in").endswith("(index.py)")


def test_code_that_does_not_load_is_told_of_and_the_code_before_it_serves_on(
    serve: Serve, code_dir: Path
) -> None:
    write(code_dir, "one")
    server = serve(
        "index.handler", "--reload", "--admin", "127.0.0.1:0", code_dir=code_dir
    )
    admin = Admin(server)
    assert server.invoke().body == b"one"
    (code_dir / "index.py").write_text("import os\n\ndef handler(:\n    pass\n")
    line = server.wait_for_message("not reloaded")
    assert "(index.py): SyntaxError: invalid syntax (index.py line 3);" in line
    (function,) = admin.get("/status").json()["functions"]
    assert "index.py line 3" in function["reloadError"]
    assert server.invoke().body == b"one"
    assert server.request("GET", "/health").status == 200
    write(code_dir, "three")
    server.wait_for_answer(b"three")
    (function,) = admin.get("/status").json()["functions"]
    assert function["reloadError"] is None


def test_code_that_never_loaded_is_served_once_it_is_mended(
    serve: Serve, code_dir: Path
) -> None:
    (code_dir / "index.py").write_text("nonsense(\n")
    server = serve("index.handler", "--reload", code_dir=code_dir)
    server.wait_for_message("trying again")
    write(code_dir, "mended")
    server.wait_for_message("reloaded in")
    assert server.invoke().body == b"mended"


def test_temporary_and_ignored_files_start_nothing(
    serve: Serve, code_dir: Path
) -> None:
    (code_dir / ".fcignore").write_text("*.log\n")
    write(code_dir, "one")
    server = serve("index.handler", "--reload", code_dir=code_dir)
    (zygote,) = server.zygotes
    for name in (".index.py.swp", "index.py~", "calls.log"):
        (code_dir / name).write_text("x")
    # Whatever they had started would have been told of before this.
    (code_dir / "real.txt").touch()
    assert server.wait_for_message("reloaded").endswith("(real.txt)")
    wait_until(lambda: not zygote.is_running())
    assert server.stderr.count(b"reloaded") == 1


@pytest.mark.parametrize(
    "options",
    [
        ("--fresh",),
        ("--preload", "never"),
        ("--sandbox", "off"),
        ("--sandbox", "off", "--preload", "never"),
        ("--sandbox", "strict"),
    ],
    ids=" ".join,
)
def test_code_is_reloaded_whatever_the_workers_are_like(
    serve: Serve, code_dir: Path, options: tuple[str, ...]
) -> None:
    write(code_dir, "a")
    server = serve("index.handler", "--reload", *options, code_dir=code_dir)
    server.wait_for_answer(b"a")
    # Of the same size, and within the second that bytecode is known by.
    for value in ("b", "c"):
        write(code_dir, value)
        server.wait_for_answer(value.encode())


def test_a_command_is_run_as_it_is_now(serve: Serve, code_dir: Path) -> None:
    script = code_dir / "run.sh"
    script.write_text("#!/bin/sh\necho one\n")
    script.chmod(0o755)
    server = serve("--reload", "--command", "--", "./run.sh", code_dir=code_dir)
    assert server.invoke().body == b"one\n"
    script.write_text("#!/bin/sh\necho two\n")
    server.wait_for_answer(b"two\n")
    script.chmod(0o644)
    assert "run.sh" in server.wait_for_message("not reloaded")


def test_a_server_is_started_anew(serve: Serve, code_dir: Path) -> None:
    def write_server(answer: str) -> None:
        (code_dir / "server.py").write_text(
            "import http.server, os\n"
            "class Page(http.server.BaseHTTPRequestHandler):\n"
            "    def do_GET(self):\n"
            "        self.send_response(200)\n"
            "        self.send_header('Content-Length', '3')\n"
            "        self.end_headers()\n"
            f"        self.wfile.write({answer.encode()!r})\n"
            "at = ('127.0.0.1', int(os.environ['PORT']))\n"
            "http.server.HTTPServer(at, Page).serve_forever()\n"
        )

    write_server("one")
    upstream = ("--upstream", "--", sys.executable, "server.py")
    server = serve("--reload", *upstream, code_dir=code_dir)
    assert server.request("GET", "/").body == b"one"
    write_server("two")
    wait_until(lambda: server.request("GET", "/").body == b"two", 10)


MANIFEST = """\
edition: 3.0.0
resources:
  orders:
    component: fc3
    props:
      functionName: orders
      runtime: python3.12
      code: ./orders
      handler: index.{handler}
      timeout: {timeout}
      environmentVariables: {{SHOP: {shop}}}
  bills:
    component: fc3
    props:
      functionName: bills
      runtime: python3.12
      code: ./bills
      handler: index.handler
{more}"""
ORDERS = """\
import os
def first(event, context):
    return f"first {os.environ['SHOP']} {context.function.timeout}"
def second(event, context):
    return f"second {os.environ['SHOP']} {context.function.timeout}"
"""


class Shop:
    """Two functions of an s.yaml."""

    def __init__(self, serve: Serve, folder: Path) -> None:
        self.folder = folder
        for name in ("orders", "bills"):
            (folder / name).mkdir()
            (folder / name / "index.py").write_text(ORDERS + WAITS.format(value="bill"))
        self.write()
        self.server = serve("--reload", *ADDRESS, code_dir=folder)
        self.server.wait_for_line("runtime inited")

    def write(
        self,
        handler: str = "first",
        timeout: str = "5",
        shop: str = "open",
        more: str = "",
    ) -> None:
        """Write the s.yaml."""
        text = MANIFEST.format(handler=handler, timeout=timeout, shop=shop, more=more)
        (self.folder / "s.yaml").write_text(text)

    def call(self, name: str = "orders") -> bytes:
        """Call one of them."""
        return call(self.server, "", f"/2023-03-30/functions/{name}/invocations").body

    def wait_for(self, body: bytes) -> None:
        """Wait for what the first one answers."""
        wait_until(lambda: self.call() == body, 10, f"{body!r} is served")


@pytest.fixture
def shop(serve: Serve, code_dir: Path) -> Shop:
    """Return a server of an s.yaml."""
    return Shop(serve, code_dir)


def test_what_an_s_yaml_says_is_applied_while_it_is_served(shop: Shop) -> None:
    assert shop.call() == b"first open 5"
    shop.write(handler="second", timeout="7", shop="closed")
    shop.wait_for(b"second closed 7")
    (orders, _) = Admin(shop.server).get("/status").json()["functions"]
    assert (orders["handler"], orders["timeoutSeconds"]) == ("index.second", 7)
    # The other one has nothing to do with it.
    assert shop.server.stderr.count(b"reloaded in") == 1
    assert shop.server.wait_for_message("reloaded in").endswith("(s.yaml)")


def test_what_did_not_load_holds_whole_once_a_later_zygote_loads_it(
    shop: Shop, gate: Path
) -> None:
    path = shop.folder / "orders" / "index.py"
    needs = f"if os.environ['SHOP'] == 'closed': open({str(gate)!r})\n"
    path.write_text(path.read_text().replace("import os\n", f"import os\n{needs}", 1))
    shop.server.wait_for_message("reloaded in")
    shop.write(shop="closed", timeout="7")
    shop.server.wait_for_message("not reloaded")
    assert shop.call() == b"first open 5"
    # No file that is watched.
    gate.touch()
    for zygote in shop.server.zygotes:
        zygote.kill()
    shop.wait_for(b"first closed 7")
    assert "orders: the zygote ended" in shop.server.wait_for_message("orders: the")


def test_only_the_function_whose_code_has_changed_is_reloaded(shop: Shop) -> None:
    path = shop.folder / "bills" / "index.py"
    path.write_text(path.read_text().replace("bill", "tax!"))
    wait_until(lambda: shop.call("bills") == b"tax!", 10, "the new bill")
    assert "bills: reloaded in" in shop.server.wait_for_message("reloaded in")
    assert shop.server.stderr.count(b"reloaded in") == 1


def test_an_s_yaml_that_cannot_be_read_changes_nothing_and_is_told_of(
    shop: Shop,
) -> None:
    (shop.folder / "s.yaml").write_text("resources: [\n")
    assert "s.yaml:" in shop.server.wait_for_message("s.yaml:")
    shop.server.wait_for_message("holds until this is mended")
    assert shop.call() == b"first open 5"
    shop.write(timeout="9")
    shop.wait_for(b"first open 9")


def test_what_needs_a_restart_is_said_once_and_the_rest_is_applied(
    shop: Shop,
) -> None:
    stock = (
        "  stock:\n    component: fc3\n    props: {functionName: stock, "
        "runtime: python3.12, code: ./bills, handler: index.handler}\n"
    )
    shop.write(shop="{SHOP: 1", more=stock)
    shop.server.wait_for_message("holds until this is mended")
    shop.write(shop="moved, ISORUNTIME_ERRORS: http", more=stock)
    shop.wait_for(b"first moved 5")
    line = shop.server.wait_for_message("only a restart")
    assert line.endswith(
        "orders: changed, but only a restart of the runtime applies it: --errors"
    )
    assert "stock is not served yet" in shop.server.wait_for_message("stock is")
    assert shop.server.stderr.count(b"only a restart") == 1


def test_workers_have_nothing_of_the_watching(serve: Serve, code_dir: Path) -> None:
    (code_dir / "index.py").write_text(
        "import os, sys\n"
        "def handler(event, context):\n"
        "    links = []\n"
        "    for fd in os.listdir('/proc/self/fd'):\n"
        "        try:\n"
        "            links.append(os.readlink(f'/proc/self/fd/{fd}'))\n"
        "        except OSError:\n"
        "            pass\n"
        "    return [links, [m for m in sys.modules if 'watch' in m or 'thread' in m]]\n"
    )
    server = serve("index.handler", "--reload", code_dir=code_dir)
    links, modules = server.invoke().json()
    assert not [link for link in links if "inotify" in link]
    assert not {"watchfiles", "threading", "isoruntime.reload"} & set(modules)


def test_without_reload_nothing_of_it_is_imported_or_runs(serve: Serve) -> None:
    server = serve("echo.handler")
    assert server.front_end.num_threads() == 1
    (code, message) = (server.stop(), b"reloading when")
    assert code == 0
    assert not server.stderr.contains(message)


def test_a_drain_ends_the_watching_and_what_is_tried(
    serve: Serve, code_dir: Path
) -> None:
    write(code_dir, "one")
    server = serve("index.handler", "--reload", code_dir=code_dir)
    assert server.invoke().body == b"one"
    (code_dir / "index.py").write_text("import time\ntime.sleep(600)\n")
    wait_until(lambda: len(server.zygotes) == 2, 10, "the newer code is tried")
    assert server.stop(signal.SIGTERM) == 0
