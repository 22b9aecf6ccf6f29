"""Answering requests as they come: one base in memory with its adapters, continued together, token by token."""
