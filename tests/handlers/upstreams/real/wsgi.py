"""A WSGI application, for gunicorn."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path


def app(environ, start_response):
    event = environ["wsgi.input"].read()
    word, _, rest = event[:4096].decode("latin-1").partition(" ")
    # In one piece: what other processes of gunicorn print comes between pieces.
    print(f"{environ['HTTP_X_FC_REQUEST_ID']} got {len(event)}")
    if word == "crash":
        os._exit(9)  # gunicorn takes 3 and 4 for a start that failed, and ends
    elif word == "crash-all":
        os.kill(os.getppid(), signal.SIGKILL)
        time.sleep(60)
    elif word == "hang":
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        subprocess.Popen(["sleep", "61"])
        time.sleep(60)
    elif word == "wait":
        sys.stdout.flush()
        while not Path(rest).exists():
            time.sleep(0.01)
    start_response("200 OK", [("Content-Length", str(len(event)))])
    return [event]
