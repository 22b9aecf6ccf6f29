"""A process that loads transformers leanly can do without the packages that it hid, and can import them afterwards."""

import json
import subprocess
import sys

from recipes.lean import UNUSED

PROGRAM = """
import json, sys
from recipes.lean import UNUSED, lean_imports
with lean_imports():
    from transformers.models.llama import modeling_llama
hidden = [name for name in UNUSED if name in sys.modules]
import scipy, sklearn
print(json.dumps([hidden, scipy.__name__, sklearn.__name__]))
"""


def test_what_is_unused_is_not_imported_and_can_be_afterwards() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True, timeout=300)
    assert json.loads(done.stdout) == [[], "scipy", "sklearn"]
    assert "sklearn" in UNUSED
