"""The program, three brokers and a PostgreSQL, for benches/faults and benches/memory.

The brokers are those of the tests (`tests/kafka/start`: Java and Maven). PostgreSQL is a cluster of
its own with the server's defaults.
"""

import contextlib
import glob
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

ROOT = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))
TARGET = os.environ.get("CARGO_TARGET_DIR", f"{ROOT}/target")
PROGRAM = f"{TARGET}/release/marketday"


def build():
    """Builds the program, and lets SIGTERM end the script like Ctrl-C: with its servers."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    subprocess.run([f"{ROOT}/marketday", "--version"], check=True, stdout=subprocess.DEVNULL)
    # What stands in the environment must not reach the program.
    for name in ["KAFKA_BROKERS", "MARKETDAY_TOPIC_PREFIX", "MARKETDAY_NAME", "REDIS_URL", "DATABASE_URL",
                 "PAGE_DATABASE_URL"]:
        os.environ.pop(name, None)


@contextlib.contextmanager
def servers():
    """A directory, brokers and a PostgreSQL in it, all gone afterwards."""
    with contextlib.ExitStack() as after:
        dir = tempfile.mkdtemp(prefix="marketday-bench-")
        after.callback(shutil.rmtree, dir, ignore_errors=True)
        os.chmod(dir, 0o755)  # PostgreSQL of root's runs as somebody else
        brokers = Brokers(f"{dir}/kafka")
        after.callback(brokers.stop)
        store = Postgres(f"{dir}/store")
        after.callback(store.stop, "immediate")
        yield dir, brokers, store


def free(ports):
    """Whether nobody listens on any of them."""
    try:
        for port in ports:
            with socket.socket() as listener:
                listener.bind(("127.0.0.1", port))
    except OSError:
        return False
    return True


class Brokers:
    """Three brokers, numbered from 1."""

    def __init__(self, dir):
        self.dir = dir
        self.port = next(p for p in range(20_000, 30_000, 10) if free(range(p, p + 6)))
        self.addresses = self._start(str(self.port))

    def _start(self, *words):
        libs = os.environ.get("KAFKA_LIBS", f"{TARGET}/tmp/kafka")
        return subprocess.run(
            [f"{ROOT}/tests/kafka/start", self.dir, *words],
            env=os.environ | {"KAFKA_LIBS": libs}, check=True, stdout=subprocess.PIPE, text=True,
        ).stdout.strip()

    def start(self, broker):
        self._start("broker", str(broker))

    def kill(self, broker):
        with open(f"{self.dir}/{broker}.pid") as file:
            os.kill(int(file.read()), signal.SIGKILL)

    def stop(self):
        for broker in [1, 2, 3]:
            try:
                self.kill(broker)
            except (FileNotFoundError, ProcessLookupError):
                pass


class Postgres:
    """A server with one role, `marketday`, and a database of that name."""

    def __init__(self, dir):
        homes = glob.glob("/usr/lib/postgresql/*/bin")
        homes.sort(key=lambda home: float(home.split("/")[-2]), reverse=True)
        path = os.environ.get("PG_BIN") or os.pathsep.join([os.environ["PATH"], *homes])
        self.tools = os.path.dirname(os.path.realpath(shutil.which("initdb", path=path)))
        # It refuses to run as root.
        self.user = {}
        if os.geteuid() == 0:
            names = {user.pw_name: user for user in pwd.getpwall()}
            user = names.get("postgres") or names["nobody"]
            self.user = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
        self.dir = dir
        os.mkdir(dir)
        if self.user:
            os.chown(dir, user.pw_uid, user.pw_gid)
        self.data = f"{dir}/data"
        self.port = next(p for p in range(30_000, 32_000) if free([p]))
        self._tool("initdb", "--auth=trust", "--username=marketday", "--encoding=UTF8", "--locale=C")
        with open(f"{self.data}/postgresql.conf", "a") as conf:
            conf.write(f"port = {self.port}\nlisten_addresses = '127.0.0.1'\n")
            conf.write("unix_socket_directories = ''\ndynamic_shared_memory_type = mmap\n")
        self.start()
        self.sql("CREATE DATABASE marketday", "postgres")

    def _tool(self, tool, *words):
        subprocess.run(
            [f"{self.tools}/{tool}", "-D", self.data, *words], cwd="/", check=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, **self.user,
        )

    def start(self):
        # Of a server that was killed the backends need a moment to notice.
        for patience in range(20, -1, -1):
            try:
                return self._tool("pg_ctl", "start", "--silent", "--wait", "--log", f"{self.dir}/log")
            except subprocess.CalledProcessError as error:
                if not patience:
                    sys.exit(f"PostgreSQL does not start: {error.stderr}; its log is {self.dir}/log")
                time.sleep(0.5)

    def stop(self, mode):
        """Stops it as `pg_ctl` does: fast or immediate."""
        self._tool("pg_ctl", "stop", "--silent", "--wait", "--mode", mode)

    def restart(self, mode):
        self.stop(mode)
        self.start()

    def kill(self):
        """kill -9 of its first process."""
        with open(f"{self.data}/postmaster.pid") as file:
            os.kill(int(file.readline()), signal.SIGKILL)

    def url(self, database="marketday"):
        return f"postgres://marketday@127.0.0.1:{self.port}/{database}"

    def sql(self, query, database="marketday"):
        """The rows of a query, as lists of texts."""
        words = [f"{self.tools}/psql", "-XAtq", "-F\t", "-v", "ON_ERROR_STOP=1", "-c", query]
        answer = subprocess.run(
            [*words, self.url(database)], check=True, capture_output=True, text=True
        )
        return [line.split("\t") for line in answer.stdout.splitlines()]
