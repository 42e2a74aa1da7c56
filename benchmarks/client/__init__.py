"""The load client: a process of its own that is told what to do, one JSON object a line."""
