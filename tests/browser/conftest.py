"""The browser tests look at the sweep that the launchers' tests ran."""

from tests.launchers.conftest import finished

__all__ = ["finished"]
