"""A process that loads a library leanly can do without the packages that it hid, and can import them afterwards."""

import json
import subprocess
import sys

import pytest

PROGRAM = """
import json, sys
from recipes.lean import UNUSED, UNUSED_BY_NEMO, lean_imports
unused = {unused}
with lean_imports(unused):
    import {library}
hidden = [name for name in unused if name in sys.modules]
found = [__import__(name).__name__ for name in unused]
print(json.dumps([hidden, found]))
"""


@pytest.mark.parametrize(
    ("library", "unused", "names"),
    [
        ("transformers.models.llama.modeling_llama", "UNUSED", ["scipy", "sklearn", "torchao"]),
        ("nemo_automodel.recipes.llm.train_ft", "UNUSED_BY_NEMO", ["mlflow"]),
    ],
)
def test_what_is_unused_is_not_imported_and_can_be_afterwards(library: str, unused: str, names: list[str]) -> None:
    program = PROGRAM.format(library=library, unused=unused)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=300)
    assert json.loads(done.stdout.splitlines()[-1]) == [[], names]
