"""The layer between programs and servers: keys, scripts, clients, and the sync and async runners of programs."""

__all__: list[str] = []  # nothing here is public
