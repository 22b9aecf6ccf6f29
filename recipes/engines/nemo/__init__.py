"""The ``nemo`` engine: NVIDIA NeMo AutoModel's own recipe in a child process."""
