"""Words: the values and vocabulary that every other group speaks. Standard library and msgspec only."""
