"""Programs of the system that functions call."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from .network import hello_server, make_certificate
from .registry import Refused, Worker, action


def shell(script: str, *arguments: str, folder: str | None = None) -> str:
    """Run a shell script; return what it prints."""
    done = subprocess.run(
        ["sh", "-euc", script, "sh", *arguments],
        cwd=folder,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"exit code {done.returncode}: {done.stderr[-2000:]}")
    return done.stdout


def in_folder(script: str) -> str:
    """Run a shell script in a folder of its own."""
    with tempfile.TemporaryDirectory() as folder:
        return shell(script, folder=folder)


@action("ls -l", "ls")
def ls() -> None:
    # Not /tmp: what others remove while it is listed makes it fail.
    assert "ordinary" in shell('ls -l . /usr/bin "$TMPDIR"; ls -d /tmp')


@action("a shell pipeline")
def pipeline() -> None:
    assert shell("printf 'b\\na\\nb\\n' | sort | uniq -c | wc -l").strip() == "2"


@action("a shell script with a here-document, a trap and a subshell")
def script() -> None:
    text = 'trap "echo left" EXIT\ncat <<E\n$(echo here)\nE\n(exit 3) || echo $?\n'
    text += "x=$(mktemp) && echo hi > $x && cat < $x && rm $x\nsleep 0.01 & wait\n"
    assert shell(text) == "here\n3\nhi\nleft\n"


@action("bash with process substitution", "bash")
def bash() -> None:
    assert shell("bash -c 'diff <(echo a) <(echo a) && echo same'") == "same\n"


@action("grep, sed, awk, find, xargs, cut, tr", "awk", "find")
def text_tools() -> None:
    assert shell("echo 'a b c' | awk '{print $2}' | sed s/b/x/ | tr x y") == "y\n"
    assert "index.py" in shell("find . -name '*.py' | xargs grep -l handler | sort")


@action("perl", "perl")
def perl() -> None:
    assert shell("perl -MList::Util=sum -e 'print sum(1..4)'") == "10"


@action("compiling and running C", "gcc")
def compile_c() -> None:
    text = (
        "printf '#include <stdio.h>\nint main(void){puts(\"built\");return 0;}' > a.c"
    )
    assert in_folder(f"{text}; gcc -O1 -o a a.c; ./a") == "built\n"


@action("building a shared library and loading it", "gcc")
def compile_library() -> None:
    load = 'import ctypes; print(ctypes.CDLL("./a.so").f())'
    said = in_folder(
        "echo 'int f(void){return 42;}' > a.c; gcc -shared -fPIC -o a.so a.c;"
        f"{sys.executable} -S -c '{load}'"
    )
    assert said == "42\n"


@action("make", "make", "gcc")
def make() -> None:
    assert "done" in in_folder("printf 'all:\\n\\t@echo done\\n' > Makefile; make -j2")


@action("node", "node")
def node() -> None:
    assert shell("node -e 'console.log(6 * 7)'") == "42\n"


@action("node with files, workers, child processes and crypto", "node")
def node_at_work() -> None:
    program = """
    const fs = require('fs'), os = require('os'), cp = require('child_process');
    const { Worker } = require('worker_threads');
    fs.writeFileSync('file', require('crypto').randomBytes(16).toString('hex'));
    os.cpus(); os.hostname(); os.tmpdir(); os.homedir(); os.networkInterfaces();
    if (cp.execSync('echo child').toString() !== 'child\\n') throw 1;
    fs.promises.readFile('file').then(() => {
        new Worker('require("worker_threads").parentPort.postMessage(1)', { eval: true })
            .on('message', () => console.log('all'));
    });
    """
    with tempfile.TemporaryDirectory() as folder:
        assert shell('node -e "$1"', program, folder=folder) == "all\n"


@action(
    "os.userInfo() of node",
    "node",
    "user name",
    refused=Refused(
        "RuntimeError",
        "nobody has written the worker's number into `/etc/passwd`",
        "`os.homedir()`, `process.env.LOGNAME`",
        Worker.NAMELESS,
    ),
)
def node_user() -> None:
    shell("node -e 'require(\"os\").userInfo()'")


@action("git: a repository in TMPDIR", "git")
def git() -> None:
    said = in_folder(
        "git init -q -b main . && echo text > file && git add file &&"
        "git -c user.name=A -c user.email=a@b.example commit -qm first &&"
        "git clone -q . copy && git -C copy log --format=%s && git status --short"
    )
    assert said.startswith("first\n")


@action("openssl", "openssl")
def openssl() -> None:
    assert len(shell("openssl rand -hex 8").strip()) == 16
    with tempfile.TemporaryDirectory() as folder:
        certificate, _ = make_certificate(Path(folder))
        assert "BEGIN CERTIFICATE" in certificate.read_text()


@action("curl to loopback", "curl")
def curl() -> None:
    with hello_server() as url:
        assert shell('curl -sS "$1"', url) == "hello"


@action("tar, gzip, xz, zip and unzip", "tar", "xz", "zip", "unzip")
def archivers() -> None:
    said = in_folder(
        "echo text > file; tar czf a.tgz file; tar cJf a.txz file; zip -q a.zip file;"
        "rm file; tar xzf a.tgz; rm file; tar xJf a.txz; rm file; unzip -q a.zip; cat file"
    )
    assert said == "text\n"


@action("the sqlite3 shell", "sqlite3")
def sqlite_shell() -> None:
    assert (
        in_folder(
            "sqlite3 db 'create table t(a); insert into t values(1);''select a from t'"
        )
        == "1\n"
    )


@action("date, uname, id, hostname, nproc, env, df, du")
def inquiries() -> None:
    for command in (
        *("date", "TZ=Asia/Shanghai date", "uname -a", "id", "nproc", "env", "pwd"),
        *("df /tmp", 'du -s "$TMPDIR"', "hostname"),
    ):
        assert shell(command), command


@action(
    "whoami",
    "whoami",
    "user name",
    refused=Refused(
        "RuntimeError",
        "nobody has written the worker's number into `/etc/passwd`",
        "`id -u`, or `$LOGNAME`",
        Worker.NAMELESS,
    ),
)
def whoami() -> None:
    assert shell("whoami")


@action("df of all file systems", "df")
def df_of_all() -> None:
    assert shell("df")


@action("ps and free", "ps", "free")
def ps() -> None:
    assert "ps" in shell("ps -o pid,args -p $$ | tail -1; ps")
    assert "Mem" in shell("free")


@action("ps aux", "ps")
def ps_of_all() -> None:
    assert "ps aux" in shell("ps aux")


@action("lscpu", "lscpu")
def lscpu() -> None:
    assert "CPU(s)" in shell("lscpu")


@action(
    "ssh and ssh-keygen",
    "ssh-keygen",
    "user name",
    refused=Refused(
        "RuntimeError",
        "nobody has written the worker's number into `/etc/passwd`",
        "a library: `cryptography`, `paramiko`",
        Worker.NAMELESS,
    ),
)
def ssh_keygen() -> None:
    assert "PRIVATE KEY" in in_folder("ssh-keygen -q -t ed25519 -N '' -f key; cat key")


@action("python -m venv in TMPDIR")
def venv() -> None:
    said = in_folder(
        f"{sys.executable} -m venv --without-pip --symlinks v; v/bin/python -c 'print(1)'"
    )
    assert said == "1\n"


@action("python -m compileall and python -m json.tool")
def python_tools() -> None:
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "a.py").write_text("x = 1\n")
        python = sys.executable
        assert shell(f"{python} -m compileall -q . && ls __pycache__", folder=folder)
        assert shell(f"echo '[1]' | {python} -m json.tool")


@action(
    "strace or gdb of a child",
    "$ strace -o /dev/null true",
    refused=Refused(
        "RuntimeError",
        "tracing is the way into other processes",
        "trace with `--sandbox off`",
    ),
)
def strace() -> None:
    assert in_folder("strace -o out true; cat out")


@action(
    "a container inside (unshare, bwrap, docker)",
    "$ unshare --user true",
    refused=Refused(
        "RuntimeError",
        "in new user namespaces everybody is root, before much of the kernel",
        "nothing: the function is inside a sandbox already",
    ),
)
def unshare() -> None:
    shell("unshare --user true")


@action("the host's addresses (ip address)", "ip")
def ip_address() -> None:
    assert "lo" in shell("ip -brief address")
