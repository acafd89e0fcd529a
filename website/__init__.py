"""The documentation as a site: what MkDocs is given besides docs/ (`make docs`)."""
