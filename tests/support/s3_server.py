"""A real S3 API on the loopback, by moto, that fails when it is told to."""

import contextlib
import logging
import os
import socket
import threading
import urllib.request
from unittest import mock

CREDENTIALS = {"AWS_ACCESS_KEY_ID": "tests", "AWS_SECRET_ACCESS_KEY": "tests", "AWS_DEFAULT_REGION": "us-east-1"}
_ERROR = "<?xml version='1.0'?><Error><Code>{}</Code><Message>as the test wants it</Message></Error>"


class S3Server:
    """A server with one bucket.

    Attributes:
        bucket: Its name.
        faults: What the next requests get instead of an answer: `cut`, or status and code of an error.
        requests: Method and path of every request so far.
    """

    def __init__(self):
        from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
        from werkzeug.serving import make_server

        self.bucket, self.faults, self.requests = "bucket", [], []
        self._answer = DomainDispatcherApplication(create_backend_app)
        self._server = make_server("127.0.0.1", 0, self._hear, threaded=True)
        self.environment = CREDENTIALS | {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{self._server.port}",
            "AWS_EC2_METADATA_DISABLED": "true",  # nobody is asked for keys but the variables
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        }
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    def url(self, name):
        return f"s3://{self.bucket}/{name}"

    def start(self):
        import fsspec

        self._thread.start()
        reset = urllib.request.Request(f"{self.environment['AWS_ENDPOINT_URL']}/moto-api/reset", method="POST")
        urllib.request.urlopen(reset).close()  # all servers of a process have the same buckets
        fsspec.filesystem("s3", skip_instance_cache=True).mkdir(self.bucket)

    def stop(self):
        self._server.shutdown()
        self._thread.join()

    def upload(self, folder, name):
        """Put a folder into the bucket."""
        import fsspec

        files = fsspec.filesystem("s3", skip_instance_cache=True)
        for path in folder.rglob("*"):
            if path.is_file():
                files.pipe_file(f"{self.bucket}/{name}/{path.relative_to(folder).as_posix()}", path.read_bytes())
        return self.url(name)

    def _hear(self, environ, start_response):
        self.requests.append((environ["REQUEST_METHOD"], environ["PATH_INFO"]))
        fault = self.faults.pop(0) if self.faults else None
        if fault == "cut":
            environ["werkzeug.socket"].shutdown(socket.SHUT_RDWR)
            raise ConnectionAbortedError
        if fault:
            status, code = fault
            start_response(status, [("Content-Type", "application/xml")])
            return [_ERROR.format(code).encode()]
        return self._answer(environ, start_response)


def forget_connections():
    """Connections know the server and the keys that they were made with."""
    import s3fs

    from pipeline.contracts import object_store

    s3fs.S3FileSystem.clear_instance_cache()
    object_store._file_system_of.cache_clear()


@contextlib.contextmanager
def running():
    """A server that this process, and what it starts, takes for S3."""
    logging.getLogger("werkzeug").setLevel(logging.CRITICAL)
    server = S3Server()
    forget_connections()
    with mock.patch.dict(os.environ, server.environment):
        server.start()
        try:
            yield server
        finally:
            server.stop()
            forget_connections()


def nodes(tmp_path, monkeypatch):
    """A function that goes to a node: it has a cache of its own, and nothing else of the others'."""

    def go(name):
        monkeypatch.setenv("CXR_SSL_CACHE", str(tmp_path / name))
        return tmp_path / name

    (tmp_path / "cwd").mkdir()
    monkeypatch.chdir(tmp_path / "cwd")
    go("first")
    return go
