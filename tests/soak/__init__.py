"""Runs that take longer than tests may: each is a script with a ``main(argv)``."""
