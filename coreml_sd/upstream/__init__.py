"""The one room that touches other libraries' internals."""
