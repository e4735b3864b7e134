"""List the code directory with an external command."""

import subprocess


def handler(event, context):
    return subprocess.check_output(["ls", "-l"])
