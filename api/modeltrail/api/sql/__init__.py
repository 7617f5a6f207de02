"""SQL for people: one query over the public views, read-only, bounded in memory and time.

``fast`` says which statements are harmless by construction; they run in the server's process.
All others run in a process of their own (``worker``) that is sent what they read and is ended by
force at its limits (``workers``). ``queries`` chooses and runs; ``formats`` are the answers.
"""
