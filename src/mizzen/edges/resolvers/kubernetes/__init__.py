"""Kubernetes: the names of its DNS, and its EndpointSlices by list and watch."""
