"""What goes wrong in an iteration."""


class ConvergenceError(RuntimeError):
    """The equation of an implicit step, or of a fixed point, was not solved to the tolerance asked for."""
