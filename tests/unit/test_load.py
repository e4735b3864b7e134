"""Handler names and what keeps one from loading: fc-contract.md 4.1 and 4.5."""

from __future__ import annotations

import email
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from isoruntime.worker import load as loading
from isoruntime.worker.load import LoadError, load, prepare_path

FIXTURES = Path(__file__).parents[1] / "handlers" / "load"
HANDLER = "def handler(event, context):\n    return __file__\n"

Write = Callable[[str, str], Path]


@pytest.fixture(autouse=True)
def modules_and_paths_as_before(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Undo what loading does to this process."""
    monkeypatch.setattr(sys, "path", sys.path.copy())
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    monkeypatch.setattr(loading._Place, "code_dir", "")
    before = dict(sys.modules)
    yield
    for name in sys.modules.keys() - before:
        del sys.modules[name]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Return what writes a file of the user's; its folder is made the code's."""
    prepare_path(str(tmp_path))

    def to_file(name: str, text: str) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    return to_file


def refusal_of(handler: str) -> LoadError:
    with pytest.raises(LoadError) as caught:
        load(handler)
    assert str(caught.value) == caught.value.message
    return caught.value


@pytest.mark.parametrize(
    ("handler", "returned"),
    [
        ("index.handler", "from index"),
        ("./index.handler", "from index"),
        ("pkg.mod.handler", "from pkg.mod"),
        ("pkg/mod.handler", "from pkg.mod"),
        ("a/b/main.handler", "from a.b.main"),
        ("a.b.main.handler", "from a.b.main"),
    ],
)
def test_a_handler_is_found_by_its_name(handler: str, returned: str) -> None:
    prepare_path(str(FIXTURES))
    function = load(handler)
    assert function(b"", None) == returned
    assert load(handler) is function


def test_what_cannot_be_called_is_no_load_error() -> None:
    prepare_path(str(FIXTURES))
    not_callable: object = load("index.not_callable")
    assert not_callable == 3


def test_code_comes_first_on_the_path_and_layers_next(tmp_path: Path) -> None:
    version = f"python{sys.version_info[0]}.{sys.version_info[1]}"
    packages = tmp_path / "python" / "lib" / version / "site-packages"
    packages.mkdir(parents=True)
    layers = str(tmp_path / "python")
    others = sys.path.copy()
    sys.path.append(layers)
    prepare_path("code", layers)
    assert sys.path == [str(Path.cwd() / "code"), str(packages), layers, *others]
    prepare_path("code", layers)
    assert sys.path == [str(Path.cwd() / "code"), str(packages), layers, *others]


def test_layers_that_are_not_there_are_not_on_the_path(tmp_path: Path) -> None:
    others = sys.path.copy()
    prepare_path(str(tmp_path), str(tmp_path / "none"))
    assert sys.path == [str(tmp_path), *others]


@pytest.mark.parametrize(
    ("file", "handler"),
    [
        ("json.py", "json.handler"),
        ("token.py", "token.handler"),
        ("code.py", "code.handler"),
        ("test.py", "test.handler"),
        ("main.py", "main.handler"),
        ("time.py", "time.handler"),
        ("__main__.py", "__main__.handler"),
        ("pytest.py", "pytest.handler"),
        ("json/__init__.py", "json.handler"),
        ("json/main.py", "json/main.handler"),
        ("email/mime/main.py", "email/mime/main.handler"),
        ("test/main.py", "test/main.handler"),
        ("test/sub/main.py", "test.sub.main.handler"),
    ],
)
def test_the_user_s_file_is_loaded_whatever_its_name(
    write: Write, file: str, handler: str
) -> None:
    path = write(file, HANDLER)
    kept = {name: sys.modules[name] for name in ("json", "time", "email", "pytest")}
    assert load(handler)(b"", None) == str(path)
    assert {name: sys.modules[name] for name in kept} == kept
    assert json.loads("[1]") == [1]


def test_python_s_modules_do_not_get_the_user_s_for_their_own(
    write: Write, tmp_path: Path
) -> None:
    write("random.py", "import tempfile\n" + HANDLER)
    code = (
        "import sys\n"
        "from isoruntime.worker.load import load, prepare_path\n"
        "assert 'random' not in sys.modules\n"
        f"prepare_path({str(tmp_path)!r})\n"
        "print(load('random.handler')(b'', None))\n"
        "import random, tempfile\n"
        "assert random.random() < 1\n"
        "assert sys.path[0] == sys.argv[1]\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.stdout, done.stderr) == (f"{tmp_path / 'random.py'}\n", "")


def test_a_package_with_another_s_name_can_import_from_itself(write: Write) -> None:
    write("email/names.py", "WHO = 'mine'\n")
    write("email/__init__.py", "from .names import WHO\n")
    write(
        "email/main.py",
        "from . import WHO, names\n\ndef handler(event, context):\n"
        "    return WHO + names.WHO\n",
    )
    assert load("email.main.handler")(b"", None) == "minemine"
    assert sys.modules["email"] is email


def test_a_module_with_another_s_name_runs_once_for_all_its_functions(
    write: Write,
) -> None:
    write("json.py", "def handler(event, context): ...\ndef init(context): ...\n")
    assert load("json.handler").__globals__ is load("json.init").__globals__


def test_a_handler_that_is_not_in_the_code_is_found_elsewhere(write: Write) -> None:
    assert load("json.dumps") is json.dumps
    write("email/other.py", "")
    assert load("email.message_from_string") is email.message_from_string
    assert load("email.utils.formatdate").__module__ == "email.utils"


def test_a_module_that_moves_the_path_does_not_hide_the_next_one(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write("lib/unrelated.py", "")
    write(
        "index.py",
        "import os, sys\nsys.path.insert(0, 'lib')\nos.chdir('/')\n" + HANDLER,
    )
    path = write("json.py", HANDLER)
    load("index.handler")
    assert load("json.handler")(b"", None) == str(path)


NO_DOT = [
    "ValueError: not enough values to unpack (expected 2, got 1)",
    "Found in the code directory: index.py",
]

#: source of index.py, handler, errorType, errorMessage, stackTrace
REFUSED: list[Any] = [
    pytest.param("", "index", "InvalidHandleName", "Invalid handler 'index'", NO_DOT),
    pytest.param("", "a/b", "InvalidHandleName", "Invalid handler 'a/b'", NO_DOT),
    pytest.param("", "", "InvalidHandleName", "Invalid handler ''", NO_DOT),
    pytest.param(
        "",
        "index.nope",
        "HandlerNotFound",
        "Handler 'nope' is missing on module 'index'",
        ["AttributeError: module 'index' has no attribute 'nope'"],
    ),
    pytest.param(
        "",
        "nomod.handler",
        "ImportModuleError",
        "Unable to import module 'nomod'",
        [
            "ModuleNotFoundError: No module named 'nomod'",
            "Found in the code directory: index.py",
        ],
    ),
    pytest.param(
        "",
        "no/mod.handler",
        "ImportModuleError",
        "Unable to import module 'no/mod'",
        ["ModuleNotFoundError: No module named 'no'"],
    ),
    pytest.param(
        "import not_installed\n",
        "index.handler",
        "ImportModuleError",
        "Unable to import module 'index'",
        ["ModuleNotFoundError: No module named 'not_installed'"],
    ),
    pytest.param(
        "raise ImportError('a, b')\n",
        "index.handler",
        "ImportModuleError",
        "Unable to import module 'index'",
        ["ImportError: a, b"],
    ),
    pytest.param(
        "raise Exception('at import')\n",
        "index.handler",
        "UserCodeError",
        "Module initialization error: 'at import'",
        ["Exception: at import"],
    ),
    pytest.param(
        "raise ValueError\n",
        "index.handler",
        "UserCodeError",
        "Module initialization error: ''",
        ["ValueError"],
    ),
    pytest.param(
        "class Stop(BaseException): ...\nraise Stop('now')\n",
        "index.handler",
        "UserCodeError",
        "Module initialization error: 'now'",
        ["Stop: now"],
    ),
    pytest.param(
        "def __getattr__(name): raise KeyError(name)\n",
        "index.handler",
        "UserCodeError",
        "Module initialization error: ''handler''",
        ["KeyError: 'handler'"],
    ),
]


@pytest.mark.parametrize(("source", "handler", "kind", "message", "stack"), REFUSED)
def test_what_does_not_load_is_told_in_the_built_in_runtime_s_words(
    write: Write, source: str, handler: str, kind: str, message: str, stack: list[str]
) -> None:
    write("index.py", source)
    error = refusal_of(handler)
    assert (error.error_type, error.message) == (kind, message)
    assert error.stack == stack


def test_a_misspelt_module_is_told_what_there_is(write: Write) -> None:
    write("index.py", "")
    write("orders.py", "")
    write("api/users.py", "")
    assert refusal_of("order.handler").stack[1] == (
        "Found in the code directory: index.py, orders.py. Did you mean 'orders'?"
    )
    assert refusal_of("api/user.handler").stack[1] == (
        "Found in the code directory: api/users.py. Did you mean 'api/users'?"
    )


def test_a_dependency_that_is_missing_is_no_misspelt_handler(write: Write) -> None:
    write("index.py", "import indexx\n")
    assert len(refusal_of("index.handler").stack) == 1


@pytest.mark.parametrize(
    "handler",
    [".handler", "..handler", "a..b.handler", "../x.handler", "/code/index.handler"],
)
def test_a_name_that_leads_nowhere_is_an_import_error(
    write: Write, handler: str
) -> None:
    module = handler.rpartition(".")[0]
    error = refusal_of(handler)
    assert error.error_type == "ImportModuleError"
    assert error.message == f"Unable to import module '{module}'"
    assert error.stack == [f"ModuleNotFoundError: No module named {module!r}"]


def test_a_name_that_ends_in_a_dot_names_no_function(write: Write) -> None:
    write("index.py", "")
    error = refusal_of("index.")
    assert error.error_type == "HandlerNotFound"
    assert error.message == "Handler '' is missing on module 'index'"


def test_a_syntax_error_is_shown_where_it_is(write: Write) -> None:
    path = write("syn.py", "fine = 1\nif fine:\n    def broken(:\n        pass\n")
    error = refusal_of("syn.handler")
    assert error.error_type == "UserCodeSyntaxError"
    assert error.message == "Syntax error in module 'syn'"
    assert error.stack == [
        f'File "{path}"',
        "line 3",
        "def broken(:",
        "SyntaxError: invalid syntax",
    ]


def test_a_syntax_error_in_an_imported_file_names_that_file(write: Write) -> None:
    path = write("deep.py", "if True:\nfine = 1\n")
    write("index.py", "import deep\n" + HANDLER)
    error = refusal_of("index.handler")
    assert error.error_type == "UserCodeSyntaxError"
    assert error.message == "Syntax error in module 'index'"
    assert error.stack[:3] == [f'File "{path}"', "line 2", "fine = 1"]
    assert error.stack[3].startswith("IndentationError: expected an indented block")
    assert len(error.stack) == 4


def test_a_syntax_error_without_a_place_is_still_told(write: Write) -> None:
    write("index.py", "raise SyntaxError('made up')\n")
    assert refusal_of("index.handler").stack == [
        'File "<unknown>"',
        "line 0",
        "",
        "SyntaxError: made up",
    ]


def test_a_misspelt_handler_is_told_what_there_is() -> None:
    prepare_path(str(FIXTURES))
    error = refusal_of("index.handle")
    assert error.message == "Handler 'handle' is missing on module 'index'"
    missing, found = error.stack
    assert missing == "AttributeError: module 'index' has no attribute 'handle'"
    # What else there is depends on the version: `Any` can be called in some.
    assert found.startswith("Found in the module: handler, initializer")
    assert found.endswith(". Did you mean 'handler'?")


def test_of_many_functions_ten_are_named_and_the_module_s_own_first(
    write: Write,
) -> None:
    own = "".join(f"def own{number}(): ...\n" for number in range(9))
    write("index.py", "from os.path import join, split\n_hidden = print\n" + own)
    (line,) = refusal_of("index.zzzzz").stack[1:]
    names = ", ".join(f"own{number}" for number in range(9))
    assert line == f"Found in the module: {names}, join and 1 more"


def test_the_cause_can_be_shown_in_a_log(write: Write) -> None:
    write("index.py", "1 / 0\n")
    assert isinstance(refusal_of("index.handler").__cause__, ZeroDivisionError)


@pytest.mark.parametrize("ending", [SystemExit, KeyboardInterrupt])
def test_an_import_that_ends_the_process_is_not_held_back(
    write: Write, ending: type[BaseException]
) -> None:
    write("index.py", f"raise {ending.__name__}\n")
    write("computed.py", f"def __getattr__(name): raise {ending.__name__}\n")
    for handler in ("index.handler", "computed.handler"):
        with pytest.raises(ending):
            load(handler)
        assert handler.partition(".")[0] not in sys.modules


def test_failed_code_runs_again_and_may_have_been_mended(write: Write) -> None:
    write("index.py", "import helper\nraise ValueError('not yet')\n")
    write("helper.py", "import index\nVALUE = 'old'\n")
    for _ in range(2):
        assert refusal_of("index.handler").stack == ["ValueError: not yet"]
        assert not {"index", "helper"} & sys.modules.keys()
    write("helper.py", "VALUE = 'newer'\n")
    write(
        "index.py", "import helper\ndef handler(event, context): return helper.VALUE\n"
    )
    assert load("index.handler")(b"", None) == "newer"


def test_a_failed_package_leaves_none_of_its_modules_behind(write: Write) -> None:
    write("pack/__init__.py", "import pack.part, pack.folder.part\nraise ValueError\n")
    write("pack/part.py", "")
    write("pack/folder/part.py", "")
    write("folder/inner/part.py", "")
    write("json.py", "raise ValueError\n")
    write("index.py", "import folder.inner.part\nimport pack\n")
    before = set(sys.modules)
    for handler in ("index.handler", "pack.handler", "json.handler"):
        assert refusal_of(handler).error_type == "UserCodeError"
        assert set(sys.modules) == before


def test_installed_packages_outlive_a_failed_import(write: Write) -> None:
    write("python/installed.py", "")
    write("venv/lib/site-packages/beside.py", "")
    write(
        "index.py",
        "import os, sys\nhere = os.path.dirname(__file__)\n"
        "sys.path += [here + '/python', here + '/venv/lib/site-packages']\n"
        "import installed, beside\nraise ValueError\n",
    )
    refusal_of("index.handler")
    assert {"installed", "beside"} <= sys.modules.keys()
    assert "index" not in sys.modules


def test_a_failure_leaves_earlier_handlers_alone() -> None:
    prepare_path(str(FIXTURES))
    function = load("index.handler")
    refusal_of("index.nope")
    assert load("index.handler") is function


def test_without_preparation_the_working_directory_is_the_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "time.py"
    path.write_text(HANDLER)
    assert load("time.handler")(b"", None) == str(path)
    assert sys.modules["time"] is time
