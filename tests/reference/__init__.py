"""Slow and obvious: what every book must be, by the venues' documents alone.

Nothing here imports mantra. Numbers are Decimal, books are sorted dictionaries, one message is handled at a time.
`replay.walk` gives every state of every book of a recording, `replay.replay` the last ones.
"""
