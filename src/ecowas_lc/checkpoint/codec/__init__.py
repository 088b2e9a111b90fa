"""Conversion of values to bytes and back: strict about types, exact, and sharing large values."""

__all__: list[str] = []  # nothing here is public
