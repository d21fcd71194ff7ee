"""A service that tries everything it should not, and says how far it came."""

import ctypes
import errno
import json
import os
import resource
import socket
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qsl, urlsplit

LIBC = ctypes.CDLL(None, use_errno=True)
# x86-64 and aarch64.
NUMBERS = {
    "x86_64": {"ptrace": 101, "mount": 165, "unshare": 272, "setns": 308, "bpf": 321, "io_uring_setup": 425,
               "keyctl": 250, "process_vm_readv": 310, "chroot": 161, "clone": 56},
    "aarch64": {"ptrace": 117, "mount": 40, "unshare": 97, "setns": 268, "bpf": 280, "io_uring_setup": 425,
                "keyctl": 219, "process_vm_readv": 270, "chroot": 51, "clone": 220},
}[os.uname().machine]
NEW_USER = 0x10000000


def name(error):
    return errno.errorcode.get(error.errno, str(error))


def call(what, *args):
    done = LIBC.syscall(NUMBERS[what], *args)
    return "done" if done >= 0 else errno.errorcode[ctypes.get_errno()]


def read(path):
    try:
        with open(path, "rb") as file:
            return file.read(1 << 20).decode(errors="replace")
    except OSError as error:
        return name(error)


def pids():
    return [int(entry) for entry in os.listdir("/proc") if entry.isdigit()]


def who(_):
    status = dict(line.split(":\t", 1) for line in read("/proc/self/status").splitlines() if ":\t" in line)
    return {
        "uid": os.getuid(), "gid": os.getgid(), "groups": os.getgroups(), "pids": pids(), "env": dict(os.environ),
        "capabilities": status["CapEff"].strip(), "bounding": status["CapBnd"].strip(),
        "noNewPrivs": status["NoNewPrivs"].strip(), "seccomp": status["Seccomp"].strip(),
    }


def environs(asked):
    """Whatever can be read of others' variables."""
    found = "".join(read("/proc/%d/environ" % pid) for pid in pids() if pid != os.getpid())
    return {"found": asked["word"] in found}


def look(asked):
    try:
        return {"is": sorted(os.listdir(asked["path"]))}
    except OSError as error:
        return {"is": read(asked["path"]) if error.errno == errno.ENOTDIR else name(error)}


def calls(_):
    other = 1
    return {
        "ptrace": call("ptrace", 16, other, 0, 0),
        "memory": call("process_vm_readv", os.getppid(), 0, 0, 0, 0, 0),
        "mount": call("mount", b"none", b"/tmp", b"tmpfs", 0, 0),
        "unshare": call("unshare", NEW_USER),
        "clone": call("clone", NEW_USER, 0, 0, 0, 0),
        "setns": call("setns", 0, 0),
        "bpf": call("bpf", 0, 0, 0),
        "io_uring": call("io_uring_setup", 1, 0),
        "keyctl": call("keyctl", 0, 0, 0, 0, 0),
        "chroot": call("chroot", b"/tmp"),
    }


def away(asked):
    """A grandchild with a session of its own, no variables and another name."""
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            for descriptor in range(3, 64):
                try:
                    os.close(descriptor)
                except OSError:
                    pass
            os.execve("/bin/sleep", ["sleep", asked["seconds"]], {})
        os._exit(0)
    return {}


def flood(asked):
    line, left = b"x" * 1023 + b"\n", int(asked["bytes"])
    while left > 0:
        left -= os.write(1, line)
    return {}


def fill(asked):
    """Writes files of a megabyte until it is told to stop."""
    written = 0
    try:
        for number in range(int(asked["megabytes"])):
            with open(os.path.join(asked.get("dir") or os.environ["SKALD_STATE"], "fill-%d" % number), "wb") as file:
                file.write(b"x" * (1 << 20))
            written += 1
    except OSError as error:
        return {"written": written, "stopped": name(error)}
    return {"written": written}


def listen(asked):
    try:
        listener = socket.socket()
        listener.bind(("127.0.0.1", int(asked["port"])))
        listener.listen()
        LISTENERS.append(listener)
        return {"listens": True}
    except OSError as error:
        return {"listens": name(error)}


def crowd(asked):
    """As many children as it gets."""
    children = []
    try:
        for _ in range(int(asked["count"])):
            child = os.fork()
            if child == 0:
                time.sleep(60)
                os._exit(0)
            children.append(child)
    except OSError as error:
        stopped = name(error)
    else:
        stopped = None
    for child in children:
        os.kill(child, 9)
        os.waitpid(child, 0)
    return {"count": len(children), "stopped": stopped}


LISTENERS = []
TRIES = {"who": who, "environs": environs, "look": look, "calls": calls, "away": away, "flood": flood, "fill": fill,
         "listen": listen, "crowd": crowd}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        asked = urlsplit(self.path)
        what = TRIES[asked.path.rsplit("/", 1)[-1]]
        body = json.dumps(what(dict(parse_qsl(asked.query)))).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


if os.environ.get("LATE"):
    time.sleep(float(os.environ["LATE"]))
ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Handler).serve_forever()
