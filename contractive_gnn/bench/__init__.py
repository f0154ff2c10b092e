"""The benchmark: protocol, runner, report and command line."""
