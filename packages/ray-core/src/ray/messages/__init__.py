"""Wire messages: structs and their codec."""
