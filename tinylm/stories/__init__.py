"""Bulk stories: any prompts file, exactly once, resumable, from one core to a cluster.

Must not know: Prefect, the terminal, how the engine computes. It reads rows, keeps the engine's slots
full, and commits whole shards. Import from its modules: telling one story needs none of what reads and writes tables.
"""
