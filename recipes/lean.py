"""Loading transformers without what it imports on the side, which takes a third of its time."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

# What transformers imports where it finds it, for parts that a pack never calls: losses of object detection (scipy),
# assisted decoding (scikit-learn), and weights that torchao has quantized.
UNUSED = ("scipy", "sklearn", "torchao")


@contextmanager
def lean_imports() -> Iterator[None]:
    """Whatever is imported within finds none of ``UNUSED``; afterwards they can be imported as ever.

    For a process's first use of transformers, which remembers what it has found.
    """
    hidden = [name for name in UNUSED if name not in sys.modules]
    for name in hidden:
        sys.modules[name] = None  # type: ignore[assignment]  # Python's own way to say that a module is not there
    try:
        yield
    finally:
        for name in hidden:
            if sys.modules.get(name, name) is None:
                del sys.modules[name]
