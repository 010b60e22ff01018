"""The entry point of tools that still look for one; everything is in ``pyproject.toml``."""

from setuptools import setup

setup()
