"""Values to bytes and back: strict about types, exact about what comes back, sharing what is large."""

__all__: list[str] = []  # nothing here is public
