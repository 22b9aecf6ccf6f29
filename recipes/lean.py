"""Loading libraries without what they import on the side, which takes a third of their time."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

# What transformers imports where it finds it, for parts that a pack never calls: losses of object detection (scipy),
# assisted decoding (scikit-learn), and weights that torchao has quantized.
UNUSED = ("scipy", "sklearn", "torchao")
# The same of NeMo AutoModel: it would log there itself, where its YAML said so.
UNUSED_BY_NEMO = ("mlflow",)


@contextmanager
def lean_imports(unused: Sequence[str] = UNUSED) -> Iterator[None]:
    """Whatever is imported within finds none of these packages; afterwards they can be imported as ever.

    For a process's first use of a library, which remembers what it has found.
    """
    hidden = [name for name in unused if name not in sys.modules]
    for name in hidden:
        sys.modules[name] = None  # type: ignore[assignment]  # Python's own way to say that a module is not there
    try:
        yield
    finally:
        for name in hidden:
            if sys.modules.get(name, name) is None:
                del sys.modules[name]
