"""What a webhook's message is, how it is signed and sent, and what follows from the answer."""
