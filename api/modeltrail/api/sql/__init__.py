"""SQL for users: one query over the public views, read-only, limited in memory and time.

``fast`` recognizes statements that are harmless by construction, which run in the server's process.
All others run in a separate process (``worker``), which gets the data that they read and is killed
at its limits (``workers``). ``queries`` chooses and runs; ``formats`` has the answers.
"""
