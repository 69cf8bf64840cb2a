"""Signing in elsewhere: OpenID Connect with one provider, by code and PKCE; no pages, no SQL."""
