"""Crew: one service in several worker processes, which the world sees as one instance.

The supervisor owns the sockets, the registration and the heartbeat, the log and the sum of the metrics; it runs no code
of the user's. Each worker is a fresh process that runs the service as a single one does, except that it announces
nothing, and accepts connections only on the sockets that the supervisor assigns to it, once it serves.
"""
