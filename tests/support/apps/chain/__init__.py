"""A chain of two services for tests: order calls user."""
