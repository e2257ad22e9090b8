"""A web server on this machine, with the faults of those in the world."""

import http.server
import threading
import time
from contextlib import suppress


class Server:
    """Serves `files` by name, and keeps in `asked` what was asked for.

    `cut_at`: bytes of an answer after which connections break, one number an answer. `has_ranges`, `has_length`,
    `has_etag`: what it offers. `checks_etag`: whether it looks at If-Range. `extra`: bytes behind the end. `content_type`.
    `statuses`, `redirections`: by name. `pause_seconds`: before each 16 bytes. `is_silent`: it answers nothing.
    """

    def __init__(self):
        self.files, self.asked, self.cut_at = {}, [], []
        self.has_ranges = self.has_length = self.has_etag = self.checks_etag = True
        self.extra, self.content_type, self.pause_seconds, self.is_silent = b"", "application/octet-stream", 0.0, False
        self.statuses, self.redirections = {}, {}
        self.ended = threading.Event()
        server = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                self.close_connection = True
                name = self.path.lstrip("/")
                server.asked.append((name, self.headers.get("Range"), self.headers.get("If-Range")))
                if server.is_silent:
                    server.ended.wait(10)
                    return
                if name in server.redirections:
                    self.send_response(302)
                    self.send_header("Location", server.redirections[name])
                    self.send_header("Content-Length", "0")
                    self.end_headers()
                    return
                status = (server.statuses.get(name) or [404 if name not in server.files else 200]).pop(0)
                if status != 200:
                    self.send_error(status)
                    return
                self.send(server.files[name])

            def send(self, data):
                etag = f'"{hash(data)}"'
                asked = self.headers.get("Range") if server.has_ranges else None
                if server.checks_etag and self.headers.get("If-Range") not in (None, etag):
                    asked = None
                start = int(asked[6:-1]) if asked else 0
                if asked and start >= len(data):
                    self.send_error(416)
                    return
                self.send_response(206 if asked else 200)
                self.send_header("Content-Type", server.content_type)
                if server.has_etag:
                    self.send_header("ETag", etag)
                if asked:
                    self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
                if server.has_length:
                    self.send_header("Content-Length", str(len(data) - start))
                self.send_header("Connection", "close")
                self.end_headers()
                rest = data[start:] + server.extra
                if server.cut_at:
                    rest = rest[: server.cut_at.pop(0)]
                if not server.pause_seconds:
                    self.wfile.write(rest)
                    return
                for at in range(0, len(rest), 16):
                    time.sleep(server.pause_seconds)
                    self.wfile.write(rest[at : at + 16])

            def log_message(self, *args):
                pass

            def handle(self):
                with suppress(ConnectionError, TimeoutError):
                    super().handle()

        self._http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._http.daemon_threads = True
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.02,))
        self._thread.start()

    def url(self, name):
        return f"http://127.0.0.1:{self._http.server_port}/{name}"

    @property
    def ranges(self):
        return [asked for _, asked, _ in self.asked]

    def close(self):
        self.ended.set()
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()
