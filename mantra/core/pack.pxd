"""pack: messages of one stream as a block: columns, each coded by what it is."""
