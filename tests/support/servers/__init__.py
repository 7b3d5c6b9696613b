"""Real registries as processes: found, started, broken and ended by a test."""
