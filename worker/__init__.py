"""The application: settings, tables, steps, tasks and the command line."""
