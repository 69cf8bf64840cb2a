"""The application: settings, tables, steps, tasks and the command line."""

VERSION = "0.1.0"
