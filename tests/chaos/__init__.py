"""The chaos run: everything dies at random while studies come in, and then every one is counted."""
