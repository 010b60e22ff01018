"""What a request costs, and what it keeps: aioh2 measured beside other HTTP/2 programs.

``python -m benchmarks`` runs all of it; ``clients``, ``memory`` and ``streams`` also run alone.
"""
