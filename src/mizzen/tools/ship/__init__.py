"""Ship: versions, executables and images."""
