"""Who may use the web pages: roles, passwords, users, sessions, limits of sign-ins; no HTTP."""
