"""Rules: decisions as plain values and functions; no I/O, no clock of their own, no rule that imports another."""
