"""A server on this machine for the time of a ``with`` block. What it answers, its handler says."""

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Self


class Loopback:
    """Listens from its making on, and answers within the block.

    Args:
        handler: Of each request.
        port: Where it listens; any free one by default.

    Attributes:
        address: Without a path.
        released: Set at the end: a handler that hangs goes on.
    """

    def __init__(self, handler: type[BaseHTTPRequestHandler], port: int = 0) -> None:
        self.released = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", port), handler)
        self._server.daemon_threads = True
        self.address = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.released.set()
        self._server.shutdown()
        self._server.server_close()


class Quiet(BaseHTTPRequestHandler):
    """A handler that logs nothing, and sends a whole answer at a time."""

    def answer(self, status: int, payload: bytes = b"", headers: dict[str, str] | None = None) -> None:
        """Send it; a client that has given up is left alone."""
        try:
            self.send_response(status)
            for name, value in {"Content-Length": str(len(payload)), **(headers or {})}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(payload)
        except OSError:
            pass

    def log_message(self, format: str, *args: object) -> None:
        pass
