"""Packages that functions bring along."""

from __future__ import annotations

import asyncio
import io
import multiprocessing
import os
import ssl
import subprocess
import tempfile
from importlib import import_module
from pathlib import Path
from typing import Any

from .network import Hello, HelloServer, hello_server, make_certificate, serving
from .processes import end_resource_tracker, square
from .registry import action

FONTS = Path("/usr/share/fonts")


@action("numpy: matrices over several threads")
def numpy_matrices() -> None:
    numpy: Any = import_module("numpy")
    numbers = numpy.random.default_rng(1).random((400, 400))
    product = numbers @ numpy.linalg.inv(numbers)
    assert numpy.allclose(product, numpy.eye(400), atol=1e-6)
    assert numpy.fft.fft(numbers).shape == (400, 400)


@action("numpy: files and memory maps")
def numpy_files() -> None:
    numpy: Any = import_module("numpy")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "numbers.npy"
        numpy.save(path, numpy.arange(1000))
        assert numpy.load(path, mmap_mode="r")[999] == 999


@action("numpy in a multiprocessing.Pool")
def numpy_in_a_pool() -> None:
    numpy: Any = import_module("numpy")
    with multiprocessing.get_context("fork").Pool(2) as pool:
        assert pool.map(numpy.sum, [numpy.ones(10)] * 4) == [10.0] * 4


@action("pandas")
def pandas_frames() -> None:
    pandas: Any = import_module("pandas")
    frame = pandas.read_csv(io.StringIO("a,b\n1,x\n2,x\n"))
    assert frame.groupby("b").a.sum()["x"] == 3
    day = pandas.Timestamp("2024-01-01", tz="Asia/Shanghai")
    assert day.tz_convert("UTC").hour == 16


@action("Pillow: open, resize, draw with a font, save")
def pillow() -> None:
    image: Any = import_module("PIL.Image")
    draw: Any = import_module("PIL.ImageDraw")
    font: Any = import_module("PIL.ImageFont")
    found = sorted(FONTS.rglob("*.ttf")) if FONTS.exists() else []
    chosen = font.truetype(str(found[0]), 20) if found else font.load_default()
    picture = image.new("RGB", (200, 100), "white")
    draw.Draw(picture).text((10, 10), "text", font=chosen, fill="black")
    with tempfile.TemporaryDirectory() as folder:
        for kind in ("png", "jpeg", "webp", "gif"):
            path = Path(folder) / f"picture.{kind}"
            picture.resize((50, 25)).save(path)
            with image.open(path) as again:
                assert again.size == (50, 25)


@action("requests, also over TLS", "openssl")
def requests_get() -> None:
    requests: Any = import_module("requests")
    with hello_server() as url, requests.Session() as session:
        assert session.get(url, timeout=5).text == "hello"
        assert session.post(url, json={"a": 1}, timeout=5).ok
    # Finds the certificates that came with it.
    assert Path(import_module("certifi").where()).read_text()
    with tempfile.TemporaryDirectory() as folder:
        certificate, key = make_certificate(Path(folder))
        server = HelloServer(("127.0.0.1", 0), Hello)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        server.socket = context.wrap_socket(server.socket, server_side=True)
        with serving(server):
            url = f"https://localhost:{server.server_port}/"
            assert requests.get(url, verify=str(certificate), timeout=5).text == "hello"


@action("httpx, with and without asyncio")
def httpx_get() -> None:
    httpx: Any = import_module("httpx")

    async def get(url: str) -> None:
        async with httpx.AsyncClient() as client:
            assert (await client.get(url)).text == "hello"

    with hello_server() as url:
        assert httpx.get(url).text == "hello"
        asyncio.run(get(url))


@action("lxml")
def lxml_tree() -> None:
    etree: Any = import_module("lxml.etree")
    assert etree.fromstring(b"<a><b>c</b></a>").xpath("string(/a/b)") == "c"


@action("cryptography")
def cryptography_token() -> None:
    fernet: Any = import_module("cryptography.fernet").Fernet  # type: ignore[attr-defined]
    box = fernet(fernet.generate_key())
    assert box.decrypt(box.encrypt(b"text")) == b"text"


@action("uvloop")
def uvloop_run() -> None:
    uvloop: Any = import_module("uvloop")

    async def work() -> None:
        child = await asyncio.create_subprocess_exec("true")
        assert await child.wait() == 0
        server = await asyncio.start_server(lambda _, to: to.close(), "127.0.0.1", 0)
        server.close()

    loop = uvloop.new_event_loop()
    try:
        loop.run_until_complete(asyncio.wait_for(work(), 10))
    finally:
        loop.close()


@action("gevent")
def gevent_greenlets() -> None:
    gevent: Any = import_module("gevent")
    subprocesses: Any = import_module("gevent.subprocess")
    sockets: Any = import_module("gevent.socket")
    gevent.joinall([gevent.spawn(gevent.sleep, 0.001) for _ in range(10)], timeout=5)
    assert subprocesses.check_output(["echo", "text"]) == b"text\n"
    assert sockets.gethostbyname("localhost") == "127.0.0.1"
    gevent.get_hub().destroy(destroy_loop=True)


@action("joblib over processes")
def joblib_parallel() -> None:
    joblib: Any = import_module("joblib")
    work = [joblib.delayed(square)(number) for number in range(4)]
    assert joblib.Parallel(2, "multiprocessing")(work) == [0, 1, 4, 9]
    assert joblib.Parallel(2, "threading")(work) == [0, 1, 4, 9]
    end_resource_tracker()


@action("joblib's own processes (loky)")
def joblib_loky() -> None:
    joblib: Any = import_module("joblib")
    work = [joblib.delayed(square)(number) for number in range(4)]
    assert joblib.Parallel(2, "loky")(work) == [0, 1, 4, 9]
    loky: Any = import_module("joblib.externals.loky")
    loky.get_reusable_executor().shutdown(wait=True, kill_workers=True)
    tracker: Any = import_module("joblib.externals.loky.backend.resource_tracker")
    tracker._resource_tracker._stop()
    end_resource_tracker()


@action("psutil about itself and its children")
def psutil_about_itself() -> None:
    psutil: Any = import_module("psutil")
    me = psutil.Process()
    child = subprocess.Popen(["sleep", "60"])
    try:
        assert child.pid in [one.pid for one in me.children(recursive=True)]
        its = psutil.Process(child.pid)
        assert its.name() == "sleep"
        assert its.memory_info().rss > 0
        assert its.status()
        its.terminate()
        its.wait(5)
    finally:
        child.kill()
        child.wait()
    assert me.memory_info().rss > 0
    assert me.memory_full_info().uss > 0
    assert me.cpu_times().user >= 0
    assert me.num_threads() == 1
    assert me.num_fds() > 0
    me.open_files()
    assert me.ppid() >= 0


@action("psutil about the host")
def psutil_about_the_host() -> None:
    psutil: Any = import_module("psutil")
    assert psutil.virtual_memory().total > 0
    psutil.swap_memory()
    assert psutil.cpu_count() >= 1
    assert psutil.cpu_percent(0.01) >= 0
    assert psutil.disk_usage("/tmp").total > 0
    assert "lo" in psutil.net_if_addrs()
    assert "lo" in psutil.net_io_counters(pernic=True)
    assert os.getpid() in psutil.pids()
    assert psutil.boot_time() > 0


@action("psutil: environment and I/O of oneself")
def psutil_private() -> None:
    psutil: Any = import_module("psutil")
    assert psutil.Process().environ()
    psutil.Process().io_counters()
