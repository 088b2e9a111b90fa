"""Between programs and servers: keys, scripts, clients, and the two shells that run a program."""

__all__: list[str] = []  # nothing here is public
