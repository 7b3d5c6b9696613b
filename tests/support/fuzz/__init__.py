"""Differential fuzzing of HTTP/1.1 in memory: bytes made by a grammar, read by Mizzen, and judged by RFC 9112 and by h11."""
