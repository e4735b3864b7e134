"""A new function: the files that it begins with."""

from __future__ import annotations

import re

from isoruntime.project import images, start
from isoruntime.project.contents import FILE, PROGRAM, Entry
from isoruntime.project.ignore import FILE_NAME
from isoruntime.typed import Final

#: What the function is called where the folder's name gives no name.
_NAMELESS: Final = "hello"

_INDEX: Final = '''\
"""A function: isoruntime calls `handler` for every invocation."""

import json
import logging

logger = logging.getLogger(__name__)


def handler(event, context):
    """Greet whoever the event names. The event is bytes, the result becomes JSON."""
    name = json.loads(event or b"{}").get("name", "world")
    logger.info("greeting %s", name)
    return {"greeting": f"Hello, {name}!"}
'''

_EVENT: Final = """\
{
  "name": "Function Compute"
}
"""

_REQUIREMENTS: Final = """\
# Packages that the code imports, one a line. `isoruntime package` ships them; isoruntime
# itself and what it needs are shipped anyway.
"""

_MANIFEST: Final = """\
# What `s deploy` makes of this folder: https://docs.serverless-devs.com
edition: 3.0.0
name: {name}
access: default
resources:
  {name}:
    component: fc3
    actions:
      pre-deploy:
        - run: isoruntime package
          path: ./
    props:
      region: cn-hangzhou
      functionName: {name}
      runtime: {runtime}
      handler: index.handler
      timeout: 60
      memorySize: 512
      cpu: 0.5
      diskSize: 512
      code: ./code.zip
      customRuntimeConfig:
        command: ["/code/bootstrap"]
        port: 9000
        healthCheckConfig:
          httpGetUrl: /health
          initialDelaySeconds: 1
          periodSeconds: 3
          timeoutSeconds: 1
          failureThreshold: 30
          successThreshold: 1
      logConfig: auto
"""

_FCIGNORE: Final = """\
# What is not deployed; gitignore syntax.
.*
__pycache__/
/code.zip
/events/
/s.yaml
/tests/
"""

_GITIGNORE: Final = """\
__pycache__/
/.s/
/.venv/
/code.zip
"""


def files(folder_name: str) -> list[Entry]:
    """Return what a new function in a folder of that name begins with."""
    manifest = _MANIFEST.format(name=function_name(folder_name), runtime=images.DEFAULT)
    texts = {
        "index.py": _INDEX,
        "events/hello.json": _EVENT,
        "requirements.txt": _REQUIREMENTS,
        "s.yaml": manifest,
        FILE_NAME: _FCIGNORE,
        ".gitignore": _GITIGNORE,
    }
    entries = [Entry(name, FILE, text.encode()) for name, text in texts.items()]
    entries.insert(1, Entry(start.NAME, PROGRAM, start.ours()))
    return entries


def function_name(folder_name: str) -> str:
    """Return the folder's name as a function may be called: letters, digits, _ and -."""
    name = re.sub(r"[^A-Za-z0-9_-]+", "-", folder_name)[:64].strip("-")
    if not name:
        return _NAMELESS
    return name if re.match(r"[A-Za-z_]", name) else f"fn-{name}"[:64]
