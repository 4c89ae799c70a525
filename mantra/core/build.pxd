"""build: what the compiler says of itself."""
