"""A small HTTP server that says what it was given."""

import json
import os
import resource
import signal
import subprocess
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        if self.path.startswith("/slow"):
            time.sleep(0.4)
        length = int(self.headers.get("Content-Length") or 0)
        status = 500 if self.path.startswith("/fail") else 200
        self.say(status, {
            "pid": os.getpid(),
            "group": os.getpgid(0),
            "revision": os.environ["SKALD_REVISION"],
            "args": sys.argv[1:],
            "env": dict(os.environ),
            "path": self.path,
            "headers": {name.lower(): value for name, value in self.headers.items()},
            "received": len(self.rfile.read(length)),
            "files": resource.getrlimit(resource.RLIMIT_NOFILE)[0],
        })

    do_POST = do_GET

    def say(self, status, answer):
        body = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


class Server(ThreadingHTTPServer):
    request_queue_size = 128
    daemon_threads = True


print("to standard output", flush=True)
print("to standard error", file=sys.stderr, flush=True)
if os.environ.get("STUBBORN"):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
if os.environ.get("BROOD"):
    # A child that leaves its session and its group.
    subprocess.Popen(["sleep", "600"], start_new_session=True)
if os.environ.get("FAILS"):
    sys.exit(int(os.environ["FAILS"]))
Server((os.environ.get("HOST", "127.0.0.1"), int(os.environ["PORT"])), Handler).serve_forever()
