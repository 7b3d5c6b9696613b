"""Tools: what people and machines run: command line, development, shipping, tests."""
