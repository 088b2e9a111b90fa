"""Redis and Valkey: key names, clients, server-side scripts, and the runners of programs. No LangChain here."""
