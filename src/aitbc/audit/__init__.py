"""The independent auditor: everything recomputed from raw rows, or as an outsider over HTTP.

Shares nothing with the code that writes but `core` and the connection: its statements are its own.
"""
