"""For the tests of services: a client without sockets, an in-memory network with faults, and virtual time."""
