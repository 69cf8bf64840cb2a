"""The REST API: what a program asks for with the token of a user."""
