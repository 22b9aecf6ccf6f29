"""A bundle behind an OpenAI-compatible API: on this machine, and how other servers are started for it."""
