"""``podium`` many times over: one process loads it once and forks for each command.

What is forked is the command line's own ``main`` with arguments, environment, output and exit code of its own, so a
command costs what it does and not the second that Python needs to load it.
"""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.launchers.running import ROOT, environment

_SERVER = """
import json, os, signal, sys
import analysis.frame, hydra, launchers.build, launchers.cli, launchers.submit, sweeps.plan
print("ready", flush=True)
for line in sys.stdin:
    asked = json.loads(line)
    child = os.fork()
    if child == 0:
        signal.alarm(asked["limit_s"])  # its default action ends the process, whatever it hangs in
        for number, path in ((0, os.devnull), (1, asked["stdout"]), (2, asked["stderr"])):
            os.dup2(os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600), number)
        os.environ.update(asked["environment"])
        sys.argv = ["podium", *asked["arguments"]]
        code = 0
        try:
            launchers.cli.main()
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else int(end.code is not None)
        except BaseException:
            import traceback
            traceback.print_exc()
            code = 1
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
    _, status = os.waitpid(child, 0)
    print(json.dumps(os.waitstatus_to_exitcode(status)), flush=True)
"""


class Forks:
    """Runs commands one after the other; ``podium`` gives what :func:`tests.launchers.running.podium` does."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __enter__(self) -> Self:
        self._server = subprocess.Popen(
            [sys.executable, "-c", _SERVER],
            cwd=ROOT,
            env=environment(self._folder / "home"),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._server.stdout is not None
        assert self._server.stdout.readline() == "ready\n"
        return self

    def podium(
        self, home: Path, *arguments: str, more: Mapping[str, str] | None = None, limit_s: int = 60
    ) -> subprocess.CompletedProcess[str]:
        """One command; one that takes longer than ``limit_s`` is ended, and its code is then -14."""
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        out, err = self._folder / "stdout", self._folder / "stderr"
        asked = {
            "arguments": arguments,
            "environment": {"PODIUM_HOME": os.fspath(home), **(more or {})},
            "stdout": os.fspath(out),
            "stderr": os.fspath(err),
            "limit_s": limit_s,
        }
        print(json.dumps(asked), file=self._server.stdin, flush=True)
        code = json.loads(self._server.stdout.readline())
        texts = (path.read_text(encoding="utf-8", errors="replace") for path in (out, err))
        return subprocess.CompletedProcess(["podium", *arguments], code, *texts)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.kill()
        self._server.communicate()
