"""Billing: a FastAPI app that knows nothing of Mizzen, and its tests."""
