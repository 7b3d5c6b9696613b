"""Consul: its health read by blocking queries, its agents and its catalog written."""
