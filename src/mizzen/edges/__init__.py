"""Edges: where Mizzen meets the outside. One third-party library per file; an edge never imports its sibling edge."""
