"""Functions of the user's own, named in a sweep as ``file.py:function``: metrics, gates, and planted defects."""

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from sweeps.errors import InvalidInput, Problem, nearest


class OwnFunction:
    """A function from a file of the user's, whose errors are told with their place and not as our traceback.

    Args:
        text: ``file.py:function``, the file relative to ``base_dir``. Loading the file runs it.
        base_dir: The folder of the sweep.
        where: The key of the sweep that names it, for messages.

    Raises:
        InvalidInput: No such file or function, or the file fails to load.
    """

    def __init__(self, text: str, base_dir: Path, where: str) -> None:
        file, _, self.name = text.rpartition(":")
        self.path, self.where = base_dir / file, where
        if not self.path.is_file():
            raise self._wrong(f"{text}: there is no file {self.path}", f"the path is relative to {base_dir}")
        module = self._load()
        function = getattr(module, self.name, None)
        if not callable(function):
            named = [key for key, value in vars(module).items() if callable(value) and not key.startswith("_")]
            hint = nearest(self.name, named) if named else "it has none at all"
            raise self._wrong(f'{self.path} has no function "{self.name}"', hint)
        self._function: Callable[[dict[str, Any], str], Any] = function

    def __call__(self, row: dict[str, Any], answer: str) -> Any:
        """What the function returns for a row and an answer.

        Raises:
            InvalidInput: It raises: with the row, and the line of the user's file.
        """
        try:
            return self._function(row, answer)
        except Exception as error:  # the user's code: whatever it raises
            raise self.wrong(row, f"it raised {type(error).__name__}: {error}", self._line(error)) from error

    def wrong(self, row: dict[str, Any], rule: str, hint: str = "") -> InvalidInput:
        """The error of what the function did with a row."""
        return self._wrong(f"{self.path}:{self.name}, row {row['id']!r}: {rule}", hint)

    def _wrong(self, rule: str, hint: str = "") -> InvalidInput:
        return InvalidInput(Problem(self.where, rule, hint))

    def _load(self) -> ModuleType:
        # A name of its own, so that a "metrics.py" neither meets nor replaces a module that is already imported.
        path = self.path
        spec = importlib.util.spec_from_file_location(f"_podium_own_{path.stem}_{abs(hash(path.resolve()))}", path)
        if spec is None or spec.loader is None:
            raise self._wrong(f"{path} is not a Python file", "its name must end in .py")
        module = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = module  # dataclasses look their module up there
        try:
            spec.loader.exec_module(module)
        except Exception as error:  # as above: the user's code
            raise self._wrong(f"{path} cannot be loaded: {type(error).__name__}: {error}", self._line(error)) from error
        return module

    def _line(self, error: Exception) -> str:
        """The last line of the user's file that an error came through."""
        trace, line = error.__traceback__, None
        while trace is not None:
            if trace.tb_frame.f_code.co_filename == str(self.path):
                line = trace.tb_lineno
            trace = trace.tb_next
        return f"{self.path.name}, line {line}" if line else ""
