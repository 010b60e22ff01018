"""Hostile and broken peers on real sockets: ``python -m unittest discover -s tests/faults -t .``.

The server is a process of its own, and while it is under fire another process measures how soon
it answers. Linux only (/proc).
"""
