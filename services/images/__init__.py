"""Images: the store, the aliases, and what others ask of them."""
