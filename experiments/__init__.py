"""Where everything meets: the command line, tables, figures and the demo."""
