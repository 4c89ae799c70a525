"""archive: every message kept, found again and played back."""
