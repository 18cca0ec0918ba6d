"""Methods: each is one value, and `register` adds a reader's."""

from hvib.methods.method import PLAIN, Method, Style
from hvib.methods.registry import METHODS, method_of

register = METHODS.register

__all__ = ["METHODS", "PLAIN", "Method", "Style", "method_of", "register"]
