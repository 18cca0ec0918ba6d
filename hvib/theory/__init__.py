"""Closed forms and exact computations against which trained systems are checked."""
