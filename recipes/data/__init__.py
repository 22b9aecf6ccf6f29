"""Rows: reading, checking, splitting, and the hash that names them."""
